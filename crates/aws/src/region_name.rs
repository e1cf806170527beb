//! What a region may be called.

/// Whether `text` looks like a region's code.
///
/// A region becomes part of a host name, and the one in an ARN comes from whoever calls: nothing
/// that could end the host name early, and so send a signed request elsewhere, may pass.
pub(crate) fn is_region(text: &str) -> bool {
    (1..=63).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !text.starts_with('-')
        && !text.ends_with('-')
}

#[cfg(test)]
mod tests {
    use super::is_region;

    #[test]
    fn only_what_can_be_a_region() {
        for region in ["us-east-1", "us-gov-west-1", "cn-north-1", "eu-isoe-west-1", "local"] {
            assert!(is_region(region), "{region}");
        }
        for other in ["", "us-east-1.example.com", "a/b", "a#", "a@b", "a:1", "US", "-a", "a-", "é"] {
            assert!(!is_region(other), "{other}");
        }
        assert!(!is_region(&"a".repeat(64)));
    }
}
