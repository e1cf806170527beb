//! Which types are transferred in binary.

/// What a type's text depends on, of the types whose binary form is worth having: the same in every
/// PostgreSQL since 12, made of numbers only, and with no setting in it.
///
/// Not among them: text, which is the same either way; types with text inside, whose receive
/// functions convert from the local client's encoding, which the remote session does not have;
/// `money` (lc_monetary), `interval` (its infinity is new in 17), and types whose OIDs differ from
/// server to server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BinaryType {
    /// No setting: text and binary say the same.
    Exact,
    /// extra_float_digits: below 1, text is rounded.
    Float,
    /// DateStyle: only ISO text is unambiguous.
    DateTime,
}

impl BinaryType {
    /// The type of this OID, if it is one of them. Source: pg_type.dat.
    pub fn of(oid: u32) -> Option<BinaryType> {
        match oid {
            // bool, bytea, int8, int2, int4, oid, numeric, uuid
            16 | 17 | 20 | 21 | 23 | 26 | 1700 | 2950 => Some(BinaryType::Exact),
            // Arrays of these.
            1000 | 1001 | 1016 | 1005 | 1007 | 1028 | 1231 | 2951 => Some(BinaryType::Exact),
            // float4, float8, and arrays of them
            700 | 701 | 1021 | 1022 => Some(BinaryType::Float),
            // time, which has but one text, and its array
            1083 | 1183 => Some(BinaryType::Exact),
            // date, timestamp, timestamptz, and arrays of them
            1082 | 1114 | 1184 | 1182 | 1115 | 1185 => Some(BinaryType::DateTime),
            _ => None,
        }
    }
}
