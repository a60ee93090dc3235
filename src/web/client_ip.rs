//! The client of a request: its user agent, and its address, behind proxies as well.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use rocket::request::Request;

use crate::config::Config;
use crate::record::Client;
use crate::web::headers::RequestHeaders;

/// The header that is a list, to which each proxy appends the address that it was asked from.
const LIST_HEADER: &str = "X-Forwarded-For";

/// Describes the client, for lists of devices.
pub(super) fn client(
    request: &Request<'_>,
    headers: &RequestHeaders<'_>,
    config: &Config,
) -> Client {
    const MAX_AGENT_CHARS: usize = 128;
    let agent = headers.user_agent.map(|agent| {
        let printable = agent.chars().filter(|c| !c.is_control() && !is_format(*c));
        printable.take(MAX_AGENT_CHARS).collect()
    });
    let ip = request.remote().map(|peer| match &config.client_ip_header {
        Some(header) => {
            let lines: Vec<&str> = request.headers().get(header).collect();
            client_ip(peer.ip(), header, &lines, &config.trusted_proxies)
        }
        None => peer.ip(),
    });
    Client {
        agent,
        ip: ip.map(|ip| ip.to_string()),
    }
}

/// Returns whether a character is invisible and changes how others are displayed.
fn is_format(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// Returns the client's address: the connection's, or the one that a trusted proxy names in its header.
///
/// A client can send the header too. So it counts only on a connection from a trusted proxy, and of a
/// list the right-most address that is not a trusted proxy's counts: the addresses to the left of it
/// may be made up by the client.
fn client_ip(peer: IpAddr, header: &str, lines: &[&str], trusted_proxies: &[IpNet]) -> IpAddr {
    let is_trusted = |ip: &IpAddr| trusted_proxies.iter().any(|network| network.contains(ip));
    let peer = peer.to_canonical();
    if !is_trusted(&peer) {
        return peer;
    }
    if !header.eq_ignore_ascii_case(LIST_HEADER) {
        return match lines {
            [line] => address(line).unwrap_or(peer),
            _ => peer,
        };
    }
    let mut client = peer;
    // Several lines are one list, in their order (RFC 9110, 5.3).
    for hop in lines.iter().rev().flat_map(|line| line.rsplit(',')) {
        match address(hop) {
            Some(ip) if is_trusted(&ip) => client = ip,
            Some(ip) => return ip,
            // A proxy that is trusted was asked by something that has no address.
            None => return client,
        }
    }
    client
}

/// Parses an address, which some proxies write with its port or in brackets.
fn address(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    let bare = text
        .strip_prefix('[')
        .and_then(|text| text.strip_suffix(']'));
    let parsed = bare.unwrap_or(text).parse::<IpAddr>().ok();
    let with_port = || Some(text.parse::<SocketAddr>().ok()?.ip());
    Some(parsed.or_else(with_port)?.to_canonical())
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn of(peer: &str, header: &str, lines: &[&str]) -> String {
        let trusted = ["10.0.0.0/8", "fd00::/8", "192.0.2.7/32"];
        let trusted = trusted.map(|network| network.parse().unwrap());
        client_ip(ip(peer), header, lines, &trusted).to_string()
    }

    #[test]
    fn a_header_counts_only_from_a_trusted_proxy() {
        for header in ["X-Forwarded-For", "X-Real-IP"] {
            assert_eq!(of("198.51.100.1", header, &["203.0.113.9"]), "198.51.100.1");
            assert_eq!(of("11.0.0.1", header, &["203.0.113.9"]), "11.0.0.1");
            assert_eq!(of("10.0.0.1", header, &["203.0.113.9"]), "203.0.113.9");
            assert_eq!(
                of("::ffff:10.0.0.1", header, &["203.0.113.9"]),
                "203.0.113.9"
            );
            assert_eq!(of("fd00::1", header, &["2001:db8::9"]), "2001:db8::9");
            assert_eq!(of("10.0.0.1", header, &[]), "10.0.0.1");
            assert_eq!(of("10.0.0.1", header, &[""]), "10.0.0.1");
            assert_eq!(of("10.0.0.1", header, &["unknown"]), "10.0.0.1");
        }
    }

    #[rstest]
    // The client wrote `1.2.3.4`, the proxy appended the client's own address.
    #[case(&["1.2.3.4, 203.0.113.9"], "203.0.113.9")]
    #[case(&["1.2.3.4", "203.0.113.9"], "203.0.113.9")]
    #[case(&["1.2.3.4, 203.0.113.9, 10.1.1.1"], "203.0.113.9")]
    #[case(&["1.2.3.4, 203.0.113.9", "192.0.2.7,10.1.1.1"], "203.0.113.9")]
    #[case(&["1.2.3.4, 203.0.113.9:4711"], "203.0.113.9")]
    #[case(&["1.2.3.4, [2001:db8::9]:4711, 10.2.0.1:80"], "2001:db8::9")]
    #[case(&["1.2.3.4, [2001:db8::9]"], "2001:db8::9")]
    #[case(&["1.2.3.4, ::ffff:203.0.113.9"], "203.0.113.9")]
    // Spoofed as a proxy: still the client's.
    #[case(&["10.9.9.9, 203.0.113.9"], "203.0.113.9")]
    // Trusted hops alone: a client inside.
    #[case(&["10.9.9.9, 10.1.1.1"], "10.9.9.9")]
    // What cannot be read ends the trust, and nothing to the left of it counts.
    #[case(&["1.2.3.4, unknown, 10.1.1.1"], "10.1.1.1")]
    #[case(&["1.2.3.4, "], "10.0.0.1")]
    fn of_a_list_the_right_most_untrusted_address_counts(
        #[case] lines: &[&str],
        #[case] client: &str,
    ) {
        assert_eq!(
            of("10.0.0.1", "x-forwarded-for", lines),
            client,
            "{lines:?}"
        );
    }

    #[test]
    fn another_header_counts_with_exactly_one_address() {
        for lines in [
            &["1.2.3.4, 203.0.113.9"][..],
            &["1.2.3.4", "203.0.113.9"],
            &["for=203.0.113.9"],
        ] {
            assert_eq!(of("10.0.0.1", "X-Real-IP", lines), "10.0.0.1", "{lines:?}");
        }
    }
}
