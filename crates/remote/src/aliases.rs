//! What a host name is an alias of (CNAME), step by step.
//!
//! `getaddrinfo` tells only the end of such a chain, and AWS's own names are aliases themselves: which step is
//! the name that AWS gave to a database can be seen only if all are known. So the name servers of
//! `/etc/resolv.conf` are asked here, without search list: an alias has dots in it.

use simple_dns::rdata::RData;
use simple_dns::{CLASS, Name, Packet, PacketFlag, Question, RCODE, TYPE};
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

const RESOLV_CONF: &str = "/etc/resolv.conf";

/// The most name servers that are asked: as many as glibc asks (resolv.h, MAXNS).
const MAX_SERVERS: usize = 3;

/// For how long one name server is waited for.
const PATIENCE: Duration = Duration::from_secs(2);

/// More steps than any resolver follows.
const MAX_STEPS: usize = 16;

/// The names that `host` is an alias of, the nearest first. None if it is no alias, or nobody answers: who
/// connects will be told of that.
pub async fn aliases(host: &str) -> Vec<String> {
    let conf = tokio::task::spawn_blocking(|| std::fs::read_to_string(RESOLV_CONF).unwrap_or_default());
    aliases_by(&name_servers(&conf.await.unwrap_or_default()), host).await
}

/// The names that `host` is an alias of, as the first of these name servers says that answers.
pub async fn aliases_by(servers: &[SocketAddr], host: &str) -> Vec<String> {
    let Some((id, query)) = query(host) else { return Vec::new() };
    for &server in servers {
        if let Ok(Ok(answer)) = timeout(PATIENCE, ask(server, id, &query)).await
            && let Some(chain) = chain(&answer, host)
        {
            return chain;
        }
    }
    Vec::new()
}

/// The name servers of a resolv.conf; without any, the one of this machine.
fn name_servers(conf: &str) -> Vec<SocketAddr> {
    let addresses = conf.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        (words.next() == Some("nameserver")).then(|| words.next()?.parse::<IpAddr>().ok())?
    });
    let mut servers: Vec<_> = addresses.take(MAX_SERVERS).map(|ip| SocketAddr::new(ip, 53)).collect();
    if servers.is_empty() {
        servers.push((Ipv4Addr::LOCALHOST, 53).into());
    }
    servers
}

/// A question for the address of a host, and its number, which nobody can guess.
fn query(host: &str) -> Option<(u16, Vec<u8>)> {
    let id = (RandomState::new().hash_one(host) & 0xffff) as u16;
    let mut packet = Packet::new_query(id);
    packet.set_flags(PacketFlag::RECURSION_DESIRED);
    let name = Name::new(host).ok()?;
    packet.questions.push(Question::new(name, TYPE::A.into(), CLASS::IN.into(), false));
    Some((id, packet.build_bytes_vec().ok()?))
}

/// The answer to a question, over UDP, or TCP if it is too long for that.
async fn ask(server: SocketAddr, id: u16, query: &[u8]) -> io::Result<Vec<u8>> {
    let from: IpAddr = match server {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((from, 0)).await?;
    // From here on only this server is heard.
    socket.connect(server).await?;
    socket.send(query).await?;
    let mut answer = vec![0; 4096];
    loop {
        let length = socket.recv(&mut answer).await?;
        match Packet::parse(&answer[..length]) {
            Ok(packet) if packet.id() != id || !packet.has_flags(PacketFlag::RESPONSE) => {}
            Ok(packet) if packet.has_flags(PacketFlag::TRUNCATION) => break,
            _ => {
                answer.truncate(length);
                return Ok(answer);
            }
        }
    }
    let mut stream = TcpStream::connect(server).await?;
    let length = u16::try_from(query.len()).map_err(io::Error::other)?;
    stream.write_all(&[&length.to_be_bytes(), query].concat()).await?;
    let length = stream.read_u16().await?;
    let mut answer = vec![0; length.into()];
    stream.read_exact(&mut answer).await?;
    Ok(answer)
}

/// The chain in an answer; none if it is no answer to that question.
fn chain(answer: &[u8], host: &str) -> Option<Vec<String>> {
    let packet = Packet::parse(answer).ok()?;
    let is_answered = packet.has_flags(PacketFlag::RESPONSE) && packet.rcode() == RCODE::NoError;
    let asked = packet.questions.first()?.qname.to_string();
    (is_answered && asked.eq_ignore_ascii_case(host)).then_some(())?;
    let mut names: Vec<String> = Vec::new();
    while names.len() < MAX_STEPS {
        let last = names.last().map_or(host, String::as_str);
        let next = packet.answers.iter().find_map(|record| match &record.rdata {
            RData::CNAME(target) if record.name.to_string().eq_ignore_ascii_case(last) => {
                Some(target.0.to_string())
            }
            _ => None,
        });
        let Some(next) = next.filter(|next| !names.contains(next)) else { break };
        names.push(next);
    }
    Some(names)
}

#[cfg(test)]
mod tests {
    use super::*;
    use simple_dns::ResourceRecord;
    use simple_dns::rdata::{A, CNAME};
    use std::net::TcpListener as StdListener;
    use tokio::net::TcpListener;

    #[test]
    fn name_servers_of_a_file() {
        let servers = |conf| name_servers(conf).iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(servers(""), ["127.0.0.1:53"]);
        let conf = "# nameserver 192.0.2.9\nsearch x\nnameserver 192.0.2.1\n nameserver\t::1 \nnameserver x\nnameserver\nnameserver fe80::1%eth0\nnameserver 192.0.2.3\nnameserver 192.0.2.4";
        assert_eq!(servers(conf), ["192.0.2.1:53", "[::1]:53", "192.0.2.3:53"]);
    }

    /// An answer to `query` with these aliases.
    fn answer(query: &[u8], aliases: &[(&str, &str)], flags: PacketFlag) -> Vec<u8> {
        let mut packet = Packet::parse(query).unwrap().into_reply();
        packet.set_flags(flags);
        for (name, target) in aliases {
            let target = RData::CNAME(CNAME(Name::new_unchecked(target)));
            packet.answers.push(ResourceRecord::new(Name::new_unchecked(name), CLASS::IN, 60, target));
        }
        let address = RData::A(A { address: 0x7f00_0001 });
        let end = aliases.last().map_or("db.example.com", |(_, target)| target);
        packet.answers.push(ResourceRecord::new(Name::new_unchecked(end), CLASS::IN, 60, address));
        packet.build_bytes_vec_compressed().unwrap()
    }

    const CHAIN: [(&str, &str); 3] = [
        ("db.example.com", "Prod.Cluster-abc.us-east-1.rds.amazonaws.com"),
        ("prod.cluster-abc.us-east-1.rds.amazonaws.com", "one.abc.us-east-1.rds.amazonaws.com"),
        ("one.abc.us-east-1.rds.amazonaws.com", "ec2-192-0-2-1.compute-1.amazonaws.com"),
    ];

    #[tokio::test]
    async fn step_by_step() {
        let server = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = server.local_addr().unwrap();
        // One that does not answer comes first.
        let silent = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let answering = tokio::spawn(async move {
            let mut query = [0; 512];
            let (length, from) = server.recv_from(&mut query).await.unwrap();
            let query = &query[..length];
            // What is no answer to the question is not heeded.
            let mut forged = answer(query, &[("db.example.com", "evil.example")], PacketFlag::RESPONSE);
            forged[0] ^= 1;
            server.send_to(&forged, from).await.unwrap();
            // In any order.
            let mut shuffled = CHAIN;
            shuffled.reverse();
            server.send_to(&answer(query, &CHAIN, PacketFlag::RESPONSE), from).await.unwrap();
        });
        let servers = [silent.local_addr().unwrap(), address];
        let found = aliases_by(&servers, "db.example.com").await;
        assert_eq!(found, CHAIN.map(|(_, target)| target));
        answering.await.unwrap();
    }

    #[tokio::test]
    async fn a_long_answer_comes_over_tcp() {
        let server = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = server.local_addr().unwrap();
        let listener = TcpListener::bind(address).await.unwrap();
        let answering = tokio::spawn(async move {
            let mut query = [0; 512];
            let (length, from) = server.recv_from(&mut query).await.unwrap();
            let short = answer(&query[..length], &[], PacketFlag::RESPONSE | PacketFlag::TRUNCATION);
            server.send_to(&short, from).await.unwrap();
            let (mut stream, _) = listener.accept().await.unwrap();
            let length = stream.read_u16().await.unwrap();
            let mut query = vec![0; length.into()];
            stream.read_exact(&mut query).await.unwrap();
            let long = answer(&query, &CHAIN, PacketFlag::RESPONSE);
            stream.write_u16(u16::try_from(long.len()).unwrap()).await.unwrap();
            stream.write_all(&long).await.unwrap();
        });
        assert_eq!(aliases_by(&[address], "db.example.com").await.len(), 3);
        answering.await.unwrap();
    }

    #[tokio::test]
    async fn nobody_answers() {
        let closed = StdListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        assert!(aliases_by(&[closed], "db.example.com").await.is_empty());
        assert!(aliases_by(&[], "db.example.com").await.is_empty());
        assert!(aliases_by(&[closed], &"a".repeat(300)).await.is_empty());
    }

    #[test]
    fn answers_that_make_no_sense() {
        let (_, query) = query("db.example.com").unwrap();
        let good = answer(&query, &CHAIN, PacketFlag::RESPONSE);
        assert_eq!(chain(&good, "DB.example.com").unwrap().len(), 3);
        assert_eq!(chain(&good, "other.example.com"), None);
        assert_eq!(chain(&query, "db.example.com"), None, "a question");
        let circle = [
            ("db.example.com", "a.example"),
            ("a.example", "db.example.com"),
            ("db.example.com", "a.example"),
        ];
        assert!(chain(&answer(&query, &circle, PacketFlag::RESPONSE), "db.example.com").unwrap().len() <= 2);
        // Neither a cut nor any changed byte is more than no answer, or another one.
        for length in 0..good.len() {
            let _ = chain(&good[..length], "db.example.com");
        }
        for at in 0..good.len() {
            for byte in [0, 1, 0x3f, 0x40, 0xc0, 0xff] {
                let mut bad = good.clone();
                bad[at] = byte;
                let _ = chain(&bad, "db.example.com");
            }
        }
    }
}
