//! Addresses of targets: what is saved reads as the same, and what is refused without resolving.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use outbound::{Address, Client, Config};

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    [
        "https://example.com/events?token=a%20b",
        "http://127.0.0.1:8080/",
        "http://2130706433/",
        "http://0177.0.0.1/a",
        "http://0x7f.1",
        "http://127.1:80",
        "http://localhost.",
        "http://a.LOCALHOST:1/",
        "http://[::ffff:169.254.169.254]/latest/meta-data",
        "http://[64:ff9b::10.0.0.1]/",
        "http://[2001:4860:4860::8888]:443/?q",
        "http://①②⑦.⓪.0.1/",
        "https://user:password@example.com",
        "http://example.com\\@10.0.0.1/",
        "http://8.8.8.8#@192.168.0.1/",
        "https://xn--exmple-cua.com:0/",
    ]
    .map(|text| text.as_bytes().to_vec())
    .into()
}

pub(crate) fn run(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let Ok(address) = text.parse::<Address>() else { return };
    let shown = address.to_string();
    let again: Address =
        shown.parse().unwrap_or_else(|error| panic!("{shown} is saved and not read: {error}"));
    assert_eq!((again.to_string(), again.origin()), (shown.clone(), address.origin()));
    assert!(!address.origin().contains(['@', '?', '#', '\\']), "{shown} has no plain origin");

    let host = address.host().trim_matches(['[', ']']);
    let is_allowed = Client::new(&Config::default()).check(&address).is_ok();
    match host.parse::<IpAddr>() {
        Ok(ip) => assert!(!is_allowed || may_be_public(ip), "{ip} passes"),
        // Whatever the system's resolver takes for a number, the parser has, too.
        Err(_) => assert!(!host.bytes().all(|byte| b"0123456789.".contains(&byte)), "{host} is a name"),
    }
    let name = host.trim_end_matches('.');
    if name == "localhost" || name.ends_with(".localhost") {
        assert!(!is_allowed, "{host} passes");
    }
}

/// What the standard library says of an address: less than the guard does, and independent of its tables.
fn may_be_public(ip: IpAddr) -> bool {
    let is_public = |ip: Ipv4Addr| {
        let is_special = ip.is_private() || ip.is_loopback() || ip.is_link_local() || ip.is_unspecified();
        !is_special && !ip.is_multicast() && !ip.is_broadcast() && !ip.is_documentation()
    };
    match ip.to_canonical() {
        IpAddr::V4(ip) => is_public(ip),
        IpAddr::V6(ip) => {
            let [first, .., high, low] = ip.segments();
            let embedded = Ipv4Addr::from(u32::from(high) << 16 | u32::from(low));
            let is_nat64 = ip.segments()[..6] == [0x64, 0xff9b, 0, 0, 0, 0];
            let is_special = ip.is_loopback() || ip.is_unspecified() || ip.is_multicast();
            let is_local = ip.is_unique_local() || ip.is_unicast_link_local() || first == 0x2002;
            ip != Ipv6Addr::LOCALHOST && !is_special && !is_local && (!is_nat64 || is_public(embedded))
        }
    }
}
