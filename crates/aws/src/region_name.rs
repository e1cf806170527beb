//! What a region may be called.

/// Whether `text` looks like a region's code: words, and a number at the end, joined by hyphens.
///
/// A region becomes part of a host name, and the one in an ARN comes from the caller: nothing
/// that could end the host name early, and so send a signed request elsewhere, may pass.
pub(crate) fn is_region(text: &str) -> bool {
    let is_all = |part: &str, is: fn(&u8) -> bool| !part.is_empty() && part.as_bytes().iter().all(is);
    let Some((words, number)) = text.rsplit_once('-') else { return false };
    text.len() <= 63
        && is_all(number, u8::is_ascii_digit)
        && words.contains('-')
        && words.split('-').all(|word| is_all(word, u8::is_ascii_lowercase))
}

#[cfg(test)]
mod tests {
    use super::is_region;

    #[test]
    fn only_what_can_be_a_region() {
        for region in [
            "us-east-1",
            "us-gov-west-1",
            "cn-north-1",
            "eu-isoe-west-1",
            "eusc-de-east-1",
            "ap-southeast-12",
        ] {
            assert!(is_region(region), "{region}");
        }
        for other in [
            "",
            "us-east-1.example.com",
            "a/b",
            "a#",
            "a@b",
            "a:1",
            "US",
            "-a",
            "a-",
            "é",
            "nonsense",
            "us-east",
            "us-east-1a",
            "US-EAST-1",
            "us_east_1",
            "us-east-",
            "us--1",
            "us-1",
            "-east-1",
            " us-east-1",
            "us-east-1 ",
            "us-east-1\n",
            "useast1",
            "global",
            "aws-global",
        ] {
            assert!(!is_region(other), "{other}");
        }
        assert!(!is_region(&format!("us-{}-1", "a".repeat(64))));
    }
}
