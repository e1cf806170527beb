//! Rows as they come from the wire.

use bytes::BytesMut;

/// A run of whole DataRow messages, to be read one row at a time.
///
/// Values are handed out in place, with room for a terminator behind and a header before them, because
/// C strings and values with a header are what Postgres takes, and copying each value would be the
/// largest cost after parsing it. The byte after a value is the first byte of the next value's length,
/// or the tag of the next message, both already read when the terminator is written over them. Only
/// the very last value of a batch has no byte behind it: that one is moved one byte to the front. What
/// is before a value is its own length.
pub struct RowBatch {
    data: BytesMut,
    at: usize,
    rows: usize,
}

/// A value in its batch: a byte that is free to use, the value, and a NUL byte.
#[derive(Debug)]
pub struct Value<'a>(&'a mut [u8]);

impl<'a> Value<'a> {
    /// The value.
    pub fn bytes(&self) -> &[u8] {
        // There are two more bytes at least, always.
        self.0.get(1..self.0.len() - 1).unwrap_or_default()
    }

    /// The value and the NUL byte after it.
    pub fn with_nul(self) -> &'a mut [u8] {
        self.0.get_mut(1..).unwrap_or_default()
    }

    /// The free byte before the value, the value, and the NUL byte after it.
    pub fn with_margins(self) -> &'a mut [u8] {
        self.0
    }
}

/// A row that does not keep to the protocol.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed data row")]
pub struct MalformedRow;

impl RowBatch {
    /// `data` holds exactly `rows` DataRow messages.
    pub(crate) fn new(data: BytesMut, rows: usize) -> RowBatch {
        RowBatch { data, at: 0, rows }
    }

    /// How many rows are left.
    pub fn remaining(&self) -> usize {
        self.rows
    }

    /// How many bytes it came as.
    pub fn wire_len(&self) -> usize {
        self.data.len()
    }

    /// Gives the values of the next row to `value`, in order; `None` stands for NULL. Returns the
    /// number of columns, or `None` after the last row.
    ///
    /// # Errors
    /// If a length points outside of the message.
    pub fn next_row(
        &mut self,
        mut value: impl FnMut(usize, Option<Value<'_>>),
    ) -> Result<Option<usize>, MalformedRow> {
        if self.rows == 0 {
            return Ok(None);
        }
        self.rows -= 1;
        // The tag may be gone already, overwritten by the terminator of the row before.
        let message_len = self.u32_at(self.at + 1)? as usize;
        let end = self.at + 1 + message_len;
        if end > self.data.len() {
            return Err(MalformedRow);
        }
        let columns = usize::from(u16::from_be_bytes([self.byte(self.at + 5)?, self.byte(self.at + 6)?]));
        let mut at = self.at + 7;
        // The first byte of the length at `at`, which the terminator of the value before has replaced.
        let mut first_byte = self.byte_or_end(at);
        for column in 0..columns {
            if at + 4 > end {
                return Err(MalformedRow);
            }
            let len =
                i32::from_be_bytes([first_byte, self.byte(at + 1)?, self.byte(at + 2)?, self.byte(at + 3)?]);
            at += 4;
            let Ok(len) = usize::try_from(len) else {
                if len != -1 {
                    return Err(MalformedRow);
                }
                first_byte = self.byte_or_end(at);
                value(column, None);
                continue;
            };
            let value_end = at + len;
            if value_end > end {
                return Err(MalformedRow);
            }
            let mut start = at;
            if value_end == self.data.len() {
                self.data.copy_within(at..value_end, at - 1);
                start = at - 1;
            }
            first_byte = self.byte_or_end(value_end);
            let Some(with_margins) = self.data.get_mut(start - 1..=start + len) else {
                return Err(MalformedRow);
            };
            if let Some(terminator) = with_margins.last_mut() {
                *terminator = 0;
            }
            value(column, Some(Value(with_margins)));
            at = value_end;
        }
        if at != end {
            return Err(MalformedRow);
        }
        self.at = end;
        Ok(Some(columns))
    }

    fn byte(&self, at: usize) -> Result<u8, MalformedRow> {
        self.data.get(at).copied().ok_or(MalformedRow)
    }

    /// The byte at `at`; after the last one, anything: the length check that follows fails first.
    fn byte_or_end(&self, at: usize) -> u8 {
        self.data.get(at).copied().unwrap_or(0)
    }

    fn u32_at(&self, at: usize) -> Result<u32, MalformedRow> {
        match self.data.get(at..at + 4) {
            Some(&[a, b, c, d]) => Ok(u32::from_be_bytes([a, b, c, d])),
            _ => Err(MalformedRow),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(values: &[Option<&[u8]>]) -> Vec<u8> {
        let mut body = (values.len() as u16).to_be_bytes().to_vec();
        for value in values {
            match value {
                None => body.extend_from_slice(&(-1i32).to_be_bytes()),
                Some(v) => {
                    body.extend_from_slice(&(v.len() as i32).to_be_bytes());
                    body.extend_from_slice(v);
                }
            }
        }
        let mut m = vec![b'D'];
        m.extend_from_slice(&(body.len() as u32 + 4).to_be_bytes());
        m.extend_from_slice(&body);
        m
    }

    fn read(batch: &mut RowBatch) -> Result<Option<Vec<Option<Vec<u8>>>>, MalformedRow> {
        let mut values = Vec::new();
        let columns = batch.next_row(|i, v| {
            assert_eq!(i, values.len());
            values.push(v.map(|v| {
                let value = v.bytes().to_vec();
                let with_margins = v.with_margins();
                assert_eq!(with_margins[1..], [&value[..], &[0]].concat());
                // The reader of the next value must not see this.
                with_margins.fill(0xee);
                value
            }));
        })?;
        Ok(columns.map(|n| {
            assert_eq!(n, values.len());
            values
        }))
    }

    #[test]
    fn values_survive_the_terminators_written_between_them() {
        let long = vec![b'y'; 1 << 24]; // a length whose first byte is not zero
        let rows: Vec<Vec<Option<&[u8]>>> = vec![
            vec![Some(b"a"), None, Some(b""), Some(&long)],
            vec![None, None, None, None],
            vec![Some(b""), Some(b""), Some(b"end"), None],
            vec![Some(b"x"), Some(b"y"), Some(b"z"), Some(b"last")],
            vec![],
        ];
        let mut data = BytesMut::new();
        for r in &rows {
            data.extend_from_slice(&row(r));
        }
        let mut batch = RowBatch::new(data, rows.len());
        for r in &rows {
            let expected: Vec<_> = r.iter().map(|v| v.map(<[u8]>::to_vec)).collect();
            assert_eq!(read(&mut batch), Ok(Some(expected)));
        }
        assert_eq!(read(&mut batch), Ok(None));
    }

    #[test]
    fn lengths_that_lie_are_errors() {
        let good = row(&[Some(b"abc"), Some(b"d")]);
        for (at, byte) in [(6, 3), (6, 1), (10, 200), (10, 0), (7, 0x7f), (7, 0x80)] {
            let mut bad = good.clone();
            bad[at] = byte;
            let mut batch = RowBatch::new(BytesMut::from(&bad[..]), 1);
            assert_eq!(read(&mut batch), Err(MalformedRow), "byte {at} = {byte}");
        }
    }
}
