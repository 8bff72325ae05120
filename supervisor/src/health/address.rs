//! Addresses as people write them. Text in, values out: no name is looked up.
//!
//! Probes stay in the container, where an address or `localhost` says it all. A resolver would be a third of this
//! program, and in an image without `/etc` its answers depend on what is not there.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// `ADDRESS:PORT`, `localhost:PORT` for both loopbacks, or `:PORT` for everybody. The error says what to write.
pub(crate) fn addresses(text: &str) -> Result<Vec<SocketAddr>, String> {
    if let Ok(address) = text.parse() {
        return Ok(vec![address]);
    }
    let (host, port) = text.rsplit_once(':').unwrap_or((text, ""));
    let Ok(port) = port.parse() else {
        return Err(format!("{text:?} names no port; write it like 127.0.0.1:8587"));
    };
    let hosts: &[IpAddr] = match host {
        "localhost" => &[IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)],
        "" => &[IpAddr::V4(Ipv4Addr::UNSPECIFIED)],
        name => return Err(format!("{name:?} is no address; write it like 127.0.0.1:{port}")),
    };
    Ok(hosts.iter().map(|host| SocketAddr::new(*host, port)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_read_and_a_name_is_refused_with_what_to_write() {
        let read = |text| addresses(text).map(|all| all.iter().map(ToString::to_string).collect::<Vec<_>>());
        assert_eq!(read("127.0.0.1:9811").unwrap(), ["127.0.0.1:9811"]);
        assert_eq!(read("[::]:80").unwrap(), ["[::]:80"]);
        assert_eq!(read("localhost:80").unwrap(), ["127.0.0.1:80", "[::1]:80"]);
        assert_eq!(read(":80").unwrap(), ["0.0.0.0:80"]);
        assert_eq!(read("app:80").unwrap_err(), "\"app\" is no address; write it like 127.0.0.1:80");
        for portless in ["", "127.0.0.1", "localhost:", "localhost:http", "::1"] {
            let why = read(portless).unwrap_err();
            assert!(why.contains("no port") || why.contains("no address"), "{portless}: {why}");
        }
    }
}
