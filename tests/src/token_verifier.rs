//! What stands in for RDS and Aurora DSQL: says whether an IAM token is a good one.
//!
//! A Postgres that authenticates by LDAP asks it: `hostssl … ldap` wants the password in clear text inside TLS,
//! as RDS does, and a simple bind carries a password of any length. The signature is computed here once more,
//! from what AWS documents of Signature Version 4, and not with the library that made it.

use ring::{digest, hmac};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::linux::net::TcpStreamExt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, SystemTime};

/// A token that came, and what was wrong with it, if anything.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// Who wanted to log in.
    pub user: String,
    /// The token.
    pub token: String,
    /// Why the token was refused.
    pub refusal: Option<String>,
}

/// What the verifier goes by.
#[derive(Clone, Debug)]
struct Rules {
    /// Access key, secret key and session token that are good.
    credentials: Vec<(String, String, Option<String>)>,
    /// What must be signed: `host:port`, and for Aurora DSQL `host`.
    place: String,
    /// How far the database's clock is ahead.
    clock_ahead: Duration,
    /// How far it is behind.
    clock_behind: Duration,
    /// Users whom no policy lets in.
    forbidden: Vec<String>,
    verdicts: Vec<Verdict>,
}

/// An LDAP server on loopback that knows nothing but simple binds.
#[derive(Debug)]
pub struct TokenVerifier {
    rules: Arc<Mutex<Rules>>,
    port: u16,
}

impl TokenVerifier {
    /// Starts one that takes tokens of the credentials that the clusters of the tests have.
    pub fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("cannot listen");
        let port = listener.local_addr().expect("a listener has an address").port();
        let rules = Arc::new(Mutex::new(Rules {
            credentials: vec![("test".into(), "test".into(), None)],
            place: String::new(),
            clock_ahead: Duration::ZERO,
            clock_behind: Duration::ZERO,
            forbidden: Vec::new(),
            verdicts: Vec::new(),
        }));
        let shared = rules.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let rules = shared.clone();
                thread::spawn(move || serve(stream, &rules));
            }
        });
        Self { rules, port }
    }

    /// A method of `pg_hba.conf` that asks it.
    pub fn hba_method(&self) -> String {
        format!("ldap ldapserver=127.0.0.1 ldapport={} ldapprefix=\"uid=\"", self.port)
    }

    /// The `host:port` that must be signed, from now on.
    pub fn expect(&self, host: &str, port: u16) {
        self.rules().place = format!("{host}:{port}");
    }

    /// Is Aurora DSQL from now on: the host is signed, and neither port nor user.
    pub fn expect_dsql(&self, host: &str) {
        self.rules().place = host.to_owned();
    }

    /// Takes tokens of these credentials only.
    pub fn trust(&self, access_key: &str, secret_key: &str, session_token: Option<&str>) {
        self.rules().credentials =
            vec![(access_key.into(), secret_key.into(), session_token.map(str::to_owned))];
    }

    /// Sets the database's clock ahead, or right if that is zero.
    pub fn set_clock_ahead(&self, by: Duration) {
        self.rules().clock_ahead = by;
    }

    /// Sets the database's clock back, or right if that is zero.
    pub fn set_clock_back(&self, by: Duration) {
        self.rules().clock_behind = by;
    }

    /// No policy lets this user in any more.
    pub fn forbid(&self, user: &str) {
        self.rules().forbidden.push(user.to_owned());
    }

    /// The verdicts on all tokens that came so far.
    pub fn verdicts(&self) -> Vec<Verdict> {
        self.rules().verdicts.clone()
    }

    /// What came of this user, and forgets it.
    pub fn take(&self, user: &str) -> Vec<Verdict> {
        let mut rules = self.rules();
        let (taken, left) = std::mem::take(&mut rules.verdicts).into_iter().partition(|v| v.user == user);
        rules.verdicts = left;
        taken
    }

    fn rules(&self) -> MutexGuard<'_, Rules> {
        self.rules.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Answers binds until the client goes. A message is `30 len (02 len id) (60 len …)`.
fn serve(mut stream: TcpStream, rules: &Mutex<Rules>) {
    loop {
        // The client of OpenLDAP sends a message in parts, and waits for each to be acknowledged.
        let _ = stream.set_quickack(true);
        let Some((0x30, message)) = element(&mut stream) else { return };
        let mut message = message.as_slice();
        let Some((0x02, id)) = element(&mut message) else { return };
        // Anything but a bind is the unbind at the end.
        let Some((0x60, bind)) = element(&mut message) else { return };
        let mut bind = bind.as_slice();
        let (Some(_version), Some((0x04, name)), Some((0x80, token))) =
            (element(&mut bind), element(&mut bind), element(&mut bind))
        else {
            return;
        };
        let name = String::from_utf8_lossy(&name);
        let user = name.strip_prefix("uid=").unwrap_or(&name).to_owned();
        let token = String::from_utf8_lossy(&token).into_owned();
        let mut rules = rules.lock().unwrap_or_else(PoisonError::into_inner);
        let refusal = judge(&rules, &user, &token).err();
        // success, or invalidCredentials
        let code = if refusal.is_none() { 0 } else { 49 };
        rules.verdicts.push(Verdict { user, token, refusal });
        drop(rules);
        let mut answer = vec![0x02, u8::try_from(id.len()).unwrap_or(0)];
        answer.extend(&id);
        answer.extend([0x61, 7, 0x0a, 1, code, 0x04, 0, 0x04, 0]);
        answer.splice(0..0, [0x30, u8::try_from(answer.len()).unwrap_or(0)]);
        if stream.write_all(&answer).is_err() {
            return;
        }
    }
}

/// The next element of BER: its tag and contents.
fn element(from: &mut impl Read) -> Option<(u8, Vec<u8>)> {
    let mut head = [0; 2];
    from.read_exact(&mut head).ok()?;
    let [tag, length] = head;
    let length = match length {
        short @ 0..0x80 => usize::from(short),
        long => {
            let mut bytes = vec![0; usize::from(long & 0x7f)];
            from.read_exact(&mut bytes).ok()?;
            bytes.iter().try_fold(0_usize, |sum, byte| sum.checked_mul(256)?.checked_add((*byte).into()))?
        }
    };
    let mut contents = vec![0; length.min(1 << 20)];
    from.read_exact(&mut contents).ok()?;
    Some((tag, contents))
}

fn judge(rules: &Rules, user: &str, token: &str) -> Result<(), String> {
    let (place, query) = token.split_once("/?").ok_or("it is no token")?;
    if place != rules.place {
        return Err(format!("it is for {place}, not for {}", rules.place));
    }
    let mut parameters: Vec<(&str, &str)> =
        query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, ""))).collect();
    let signature = parameters.iter().position(|(name, _)| *name == "X-Amz-Signature");
    let (_, signature) = parameters.remove(signature.ok_or("it has no signature")?);
    let value = |name: &str| {
        let found = parameters.iter().find(|(known, _)| *known == name);
        found.map(|(_, value)| decode(value)).ok_or(format!("it has no {name}"))
    };
    let wanted = match (rules.place.contains(':'), user) {
        (true, user) => ("connect", Some(user), "rds-db"),
        (false, "admin") => ("DbConnectAdmin", None, "dsql"),
        (false, _) => ("DbConnect", None, "dsql"),
    };
    let (action, signed_user, service_wanted) = wanted;
    if value("Action")? != action || value("DBUser").ok().as_deref() != signed_user {
        return Err("it is for somebody else".into());
    }
    if rules.forbidden.iter().any(|forbidden| forbidden == user) {
        return Err("no policy lets the user in".into());
    }
    let (date, lifetime) = (value("X-Amz-Date")?, value("X-Amz-Expires")?);
    let signed = seconds(&date).ok_or("its date is none")?;
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_err(|e| e.to_string())?;
    let now = (now + rules.clock_ahead).saturating_sub(rules.clock_behind).as_secs();
    let lifetime: u64 = lifetime.parse().map_err(|_| "its lifetime is none")?;
    if lifetime > 900 || now >= signed + lifetime {
        return Err("it has expired".into());
    }
    if signed > now + 300 {
        return Err("it is of the future".into());
    }

    let credential = value("X-Amz-Credential")?;
    let [key, day, region, service, end] = credential.split('/').collect::<Vec<_>>()[..] else {
        return Err("its credential has other parts".into());
    };
    if (service, end) != (service_wanted, "aws4_request") || !date.starts_with(day) {
        return Err("its scope is another".into());
    }
    let known = rules.credentials.iter().find(|(known, ..)| known == key);
    let (_, secret, session) = known.ok_or("nobody has that access key")?;
    if value("X-Amz-Security-Token").ok() != *session {
        return Err("it has another session token".into());
    }
    parameters.sort_unstable();
    let query: Vec<_> = parameters.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let request = format!(
        "GET\n/\n{}\nhost:{}\n\nhost\n{}",
        query.join("&"),
        place.to_ascii_lowercase(),
        hex(digest::digest(&digest::SHA256, b"").as_ref())
    );
    let to_sign = format!(
        "AWS4-HMAC-SHA256\n{date}\n{day}/{region}/{service}/{end}\n{}",
        hex(digest::digest(&digest::SHA256, request.as_bytes()).as_ref())
    );
    let mut key = format!("AWS4{secret}").into_bytes();
    for part in [day, region, service, end] {
        key = mac(&key, part);
    }
    if hex(&mac(&key, &to_sign)) != signature {
        return Err("its signature is wrong".into());
    }
    Ok(())
}

fn mac(key: &[u8], text: &str) -> Vec<u8> {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text.as_bytes()).as_ref().to_vec()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn decode(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, more @ ..] = rest {
        let code = more.get(..2).filter(|_| *first == b'%').and_then(|code| std::str::from_utf8(code).ok());
        match code.and_then(|code| u8::from_str_radix(code, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &more[2..];
            }
            None => {
                bytes.push(*first);
                rest = more;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Seconds since 1970 of `20241107T173933Z`.
fn seconds(date: &str) -> Option<u64> {
    let part = |range: std::ops::Range<usize>| date.get(range)?.parse::<u64>().ok();
    let (year, month, day) = (part(0..4)?, part(4..6)?, part(6..8)?);
    let leap = |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let days_before = (1970..year).map(|year| 365 + u64::from(leap(year))).sum::<u64>();
    let lengths = [31, 28 + u64::from(leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let days = days_before + lengths.iter().take(usize::try_from(month).ok()? - 1).sum::<u64>() + day - 1;
    Some(days * 86_400 + part(9..11)? * 3_600 + part(11..13)? * 60 + part(13..15)?)
}
