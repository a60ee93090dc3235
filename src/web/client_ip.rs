//! The address of the client, behind proxies as well.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

/// The header that is a list, to which each proxy appends the address that it was asked from.
const LIST_HEADER: &str = "X-Forwarded-For";

/// Returns the client's address: the connection's, or the one that a trusted proxy names in its header.
///
/// A client can send the header too. So it counts only on a connection from a trusted proxy, and of a
/// list the right-most address that is not a trusted proxy's counts: what is to the left of it is the
/// client's own word.
pub(super) fn client_ip(
    peer: IpAddr,
    header: &str,
    lines: &[&str],
    trusted_proxies: &[IpNet],
) -> IpAddr {
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
