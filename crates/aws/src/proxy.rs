//! The proxy that the server's environment names.

use aws_smithy_http_client::proxy::ProxyConfig;

use crate::AwsError;

/// For these, no proxy is asked. Instance and container metadata tell whoever asks its own
/// credentials: behind a proxy they would be the proxy's.
const NEVER: &str = "localhost,127.0.0.0/8,::1/128,169.254.0.0/16,fe80::/10,fd00:ec2::/32";

/// Which URLs a proxy is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scheme {
    Http,
    Https,
}

/// The proxy for URLs of this scheme, as curl and the AWS CLI find it: `HTTPS_PROXY`, `HTTP_PROXY`, else
/// `ALL_PROXY`, and none for what `NO_PROXY` names; of each the lower-case name counts if the upper-case one
/// is not set.
///
/// # Errors
/// If it is not the URL of an HTTP proxy.
pub(crate) fn from_environment(scheme: Scheme) -> Result<ProxyConfig, AwsError> {
    configure(scheme, |name| std::env::var(name).ok().filter(|value| !value.is_empty()))
}

fn configure(scheme: Scheme, get: impl Fn(&'static str) -> Option<String>) -> Result<ProxyConfig, AwsError> {
    let names = match scheme {
        Scheme::Http => ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"],
        Scheme::Https => ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"],
    };
    let Some((variable, url)) = names.into_iter().find_map(|name| Some((name, get(name)?))) else {
        return Ok(ProxyConfig::disabled());
    };
    let url = if url.contains("://") { url } else { format!("http://{url}") };
    let proxy = match scheme {
        // The client for http has no TLS, not even for the way to a proxy.
        Scheme::Http if !url.to_ascii_lowercase().starts_with("http://") => {
            return Err(AwsError::BadProxy { variable });
        }
        Scheme::Http => ProxyConfig::http(url),
        Scheme::Https => ProxyConfig::https(url),
    };
    // The error may quote the URL.
    let proxy = proxy.map_err(|_| AwsError::BadProxy { variable })?;
    let exceptions = get("NO_PROXY").or_else(|| get("no_proxy")).unwrap_or_default();
    Ok(proxy.no_proxy(format!("{NEVER},{exceptions}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(scheme: Scheme, variables: &[(&str, &str)]) -> Result<ProxyConfig, AwsError> {
        configure(scheme, |name| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn none() {
        assert!(with(Scheme::Https, &[]).unwrap().is_disabled());
        assert!(with(Scheme::Https, &[("HTTP_PROXY", "http://p:1")]).unwrap().is_disabled());
        assert!(with(Scheme::Http, &[("HTTPS_PROXY", "http://p:1")]).unwrap().is_disabled());
    }

    #[test]
    fn usual_ways_to_write_it() {
        for url in ["http://p:3128", "p:3128", "http://u:hunter2@p:3128/", "http://[::1]:3128"] {
            for name in ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"] {
                let proxy = with(Scheme::Https, &[(name, url)]).unwrap();
                assert!(!proxy.is_disabled() && !proxy.is_from_env(), "{name}={url}");
            }
        }
        assert!(with(Scheme::Https, &[("HTTPS_PROXY", "https://p:3129")]).is_ok());
    }

    #[test]
    fn what_is_none_is_told_without_its_password() {
        for url in ["socks5://u:hunter2@p:1080", "http://u:hunter2@", "http://u:hunter2@a b", "http://"] {
            for (scheme, variable) in [(Scheme::Http, "HTTP_PROXY"), (Scheme::Https, "HTTPS_PROXY")] {
                let error = with(scheme, &[(variable, url)]).unwrap_err();
                assert_eq!(error, AwsError::BadProxy { variable }, "{url}");
                assert!(!format!("{error} {error:?}").contains("hunter2"));
            }
        }
        assert!(with(Scheme::Http, &[("HTTP_PROXY", "https://p:3129")]).is_err());
    }
}
