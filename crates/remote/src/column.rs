//! The columns of a result.

use std::io;

/// A column, as RowDescription tells of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Column {
    /// The OID of its type; of a domain, that of the type below.
    pub type_oid: u32,
    /// Whether the column's values come in binary.
    pub binary: bool,
}

impl Column {
    /// Reads the body of a RowDescription.
    ///
    /// # Errors
    /// `InvalidData` if it does not keep to the protocol.
    pub(crate) fn parse_all(body: &[u8]) -> io::Result<Vec<Column>> {
        Column::try_parse_all(body)
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "malformed row description"))
    }

    fn try_parse_all(body: &[u8]) -> Option<Vec<Column>> {
        let (count, mut rest) = body.split_first_chunk::<2>()?;
        // Not made for as many as the message claims to have: they have to be there.
        let mut columns = Vec::new();
        for _ in 0..u16::from_be_bytes(*count) {
            let name = rest.iter().position(|byte| *byte == 0)?;
            // Table (4 bytes), attribute number (2), type (4), its size (2), modifier (4), format (2).
            let (fields, behind) = rest[name + 1..].split_first_chunk::<18>()?;
            rest = behind;
            columns.push(Column {
                type_oid: u32::from_be_bytes([fields[6], fields[7], fields[8], fields[9]]),
                binary: match [fields[16], fields[17]] {
                    [0, 0] => false,
                    [0, 1] => true,
                    _ => return None,
                },
            });
        }
        rest.is_empty().then_some(columns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(columns: &[(&str, u32, u16)]) -> Vec<u8> {
        let mut body = (columns.len() as u16).to_be_bytes().to_vec();
        for (name, type_oid, format) in columns {
            body.extend(name.as_bytes());
            body.extend([0, 0, 0, 0, 9, 0, 1]);
            body.extend(type_oid.to_be_bytes());
            body.extend([0, 4, 0xff, 0xff, 0xff, 0xff]);
            body.extend(format.to_be_bytes());
        }
        body
    }

    #[test]
    fn types_and_formats() {
        assert_eq!(Column::parse_all(&body(&[])).unwrap(), []);
        assert_eq!(
            Column::parse_all(&body(&[("id", 23, 1), ("", 4_000_000_000, 0)])).unwrap(),
            [Column { type_oid: 23, binary: true }, Column { type_oid: 4_000_000_000, binary: false }]
        );
    }

    #[test]
    fn what_does_not_fit_is_malformed() {
        let good = body(&[("id", 23, 1), ("name", 25, 0)]);
        for end in 0..good.len() {
            assert!(Column::parse_all(&good[..end]).is_err(), "{end} bytes");
        }
        assert!(Column::parse_all(&[&good[..], b"x"].concat()).is_err());
        assert!(Column::parse_all(&body(&[("id", 23, 2)])).is_err());
    }
}
