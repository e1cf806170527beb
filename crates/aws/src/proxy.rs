//! The proxy that the server's environment names.

use ::http::Uri;
use hyper_util::client::proxy::matcher::{Intercept, Matcher};

use crate::AwsError;

/// Hosts for which no proxy is asked. Instance and container metadata tell each machine its own
/// credentials: behind a proxy they would be the proxy's.
const NEVER: &str = "localhost,127.0.0.0/8,::1/128,169.254.0.0/16,fe80::/10,fd00:ec2::/32";

/// Which URLs a proxy is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scheme {
    /// `http://`: the proxy is given the whole request.
    Http,
    /// `https://`: the proxy is asked for a tunnel.
    Https,
}

/// Which proxy to ask, if any.
pub(crate) struct Proxies(Option<Matcher>);

impl Proxies {
    /// The proxy for a request to `uri`; `None` if the request goes there directly.
    pub(crate) fn intercept(&self, uri: &Uri) -> Option<Intercept> {
        self.0.as_ref()?.intercept(uri)
    }
}

/// The proxy for URLs of this scheme, as curl and the AWS CLI find it: `HTTPS_PROXY`, `HTTP_PROXY`, else
/// `ALL_PROXY`, and none for what `NO_PROXY` names; of each the lower-case name counts if the upper-case one
/// is not set.
///
/// # Errors
/// If it is not the URL of an HTTP proxy.
pub(crate) fn from_environment(scheme: Scheme) -> Result<Proxies, AwsError> {
    configure(scheme, |name| std::env::var(name).ok().filter(|value| !value.is_empty()))
}

fn configure(scheme: Scheme, get: impl Fn(&'static str) -> Option<String>) -> Result<Proxies, AwsError> {
    let names = match scheme {
        Scheme::Http => ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"],
        Scheme::Https => ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"],
    };
    let Some((variable, url)) = names.into_iter().find_map(|name| Some((name, get(name)?))) else {
        return Ok(Proxies(None));
    };
    let url = if url.contains("://") { url } else { format!("http://{url}") };
    let exceptions = get("NO_PROXY").or_else(|| get("no_proxy")).unwrap_or_default();
    let matcher = |exceptions| {
        let builder = Matcher::builder();
        let builder =
            if scheme == Scheme::Http { builder.http(url.clone()) } else { builder.https(url.clone()) };
        builder.no(exceptions).build()
    };
    // It says nothing of a URL that it does not understand, and takes socks, which we do not speak.
    let somewhere = match scheme {
        Scheme::Http => Uri::from_static("http://example.com/"),
        Scheme::Https => Uri::from_static("https://example.com/"),
    };
    match matcher(String::new()).intercept(&somewhere) {
        Some(proxy) if matches!(proxy.uri().scheme_str(), Some("http" | "https")) => {
            Ok(Proxies(Some(matcher(format!("{NEVER},{exceptions}")))))
        }
        // The URL may hold a password.
        _ => Err(AwsError::BadProxy { variable }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(scheme: Scheme, variables: &[(&str, &str)]) -> Result<Proxies, AwsError> {
        configure(scheme, |name| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn none() {
        assert!(with(Scheme::Https, &[]).unwrap().0.is_none());
        assert!(with(Scheme::Https, &[("HTTP_PROXY", "http://p:1")]).unwrap().0.is_none());
        assert!(with(Scheme::Http, &[("HTTPS_PROXY", "http://p:1")]).unwrap().0.is_none());
    }

    #[test]
    fn usual_ways_to_write_it() {
        for url in ["http://p:3128", "p:3128", "http://u:hunter2@p:3128/", "http://[::1]:3128"] {
            for name in ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"] {
                let proxy = with(Scheme::Https, &[(name, url)]).unwrap();
                let proxied = |uri| proxy.intercept(&Uri::from_static(uri)).is_some();
                assert!(proxied("https://sts.amazonaws.com/"), "{name}={url}");
                for here in [
                    "https://localhost/",
                    "https://127.0.0.1:1/",
                    "https://169.254.169.254/",
                    "https://[::1]/",
                ] {
                    assert!(!proxied(here), "{name}={url} {here}");
                }
            }
        }
        assert!(with(Scheme::Https, &[("HTTPS_PROXY", "https://p:3129")]).is_ok());
    }

    #[test]
    fn what_is_none_is_told_without_its_password() {
        for url in ["socks5://u:hunter2@p:1080", "http://u:hunter2@", "http://u:hunter2@a b", "http://"] {
            for (scheme, variable) in [(Scheme::Http, "HTTP_PROXY"), (Scheme::Https, "HTTPS_PROXY")] {
                let error = with(scheme, &[(variable, url)]).err().unwrap();
                assert_eq!(error, AwsError::BadProxy { variable }, "{url}");
                assert!(!format!("{error} {error:?}").contains("hunter2"));
            }
        }
        assert!(with(Scheme::Http, &[("HTTP_PROXY", "https://p:3129")]).is_ok());
    }
}
