//! Webhooks: which URLs and addresses may be called, and when a call that failed is tried again.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::Duration,
};

use url::{Host, Url};

/// What a secret begins with; the rest is base64.
pub const SECRET_PREFIX: &str = "whsec_";

/// The most characters of an endpoint's URL.
pub const URL_LENGTH_MAX: usize = 2_000;

/// The pauses after the first, the second, … failure, as multiples of the first pause: with 5 s that is
/// 5 s, 30 s, 2 min, 10 min, 30 min, 1 h, 2 h, 4 h, 8 h and then 12 h, three days in all.
const PAUSES: [u32; 14] = [
    1, 6, 24, 120, 360, 720, 1_440, 2_880, 5_760, 8_640, 8_640, 8_640, 8_640, 8_640,
];

/// How far a pause may be from its length, as a part of it.
const SPREAD: f64 = 0.1;

/// How long to wait after so many failures; `None` when it is over. `chance` in 0 .. 1 spreads those that
/// failed together.
pub fn pause_after(failures: u32, first: Duration, chance: f64) -> Option<Duration> {
    let index = usize::try_from(failures).ok()?.checked_sub(1)?;
    let factor = PAUSES.get(index)?;
    Some((first * *factor).mul_f64(1.0 + SPREAD * (2.0 * chance - 1.0)))
}

/// The URL in its normal form, or what is wrong with it. Private addresses and plain HTTP only if
/// `allow_private`. What a name resolves to is another question, asked whenever it is called.
pub fn check_url(text: &str, allow_private: bool) -> Result<Url, &'static str> {
    let url = Url::parse(text).map_err(|_| "it must be an absolute URL")?;
    match url.scheme() {
        "https" => {}
        "http" if allow_private => {}
        "http" => return Err("it must begin with https://"),
        _ => return Err("it must begin with https:// or http://"),
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("it must not have a user name or a password");
    }
    if url.fragment().is_some() {
        return Err("it must not have a fragment");
    }
    if url.as_str().len() > URL_LENGTH_MAX {
        return Err("it must have at most 2000 characters");
    }
    if !allow_private && names_private_host(&url) {
        return Err("its host must be public");
    }
    Ok(url)
}

/// Whether the URL's host is an address that is not public, or a name of this machine.
pub fn names_private_host(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(address)) => !is_public(address.into()),
        Some(Host::Ipv6(address)) => !is_public(address.into()),
        Some(Host::Domain(name)) => {
            let name = name.trim_end_matches('.');
            name == "localhost" || name.ends_with(".localhost")
        }
        None => true,
    }
}

/// Whether an address is one of the open Internet: not of this machine, a private network, a link, a
/// group, a carrier, a cloud's metadata, or reserved (the IANA special-purpose registries).
pub fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    let special = matches!(
        (a, b, c),
        (0 | 10 | 127, ..)
            | (100, 64..=127, _)
            | (169, 254, _)
            | (172, 16..=31, _)
            | (192, 0, 0 | 2)
            | (192, 88, 99)
            | (192, 168, _)
            | (198, 18 | 19, _)
            | (198, 51, 100)
            | (203, 0, 113)
            | (224.., ..)
    );
    !special
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    if let Some(inner) = inner_v4(address) {
        return is_public_v4(inner);
    }
    let [first, second, ..] = address.segments();
    // Only 2000::/3 is given out; within it are protocols, tunnels and examples.
    let global = first & 0xe000 == 0x2000;
    let special = matches!((first, second), (0x2001, ..0x0200 | 0x0db8) | (0x3fff, _));
    global && !special
}

/// The IPv4 address that an IPv6 address leads to: mapped, compatible, translated (64:ff9b::/96), 6to4.
fn inner_v4(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let [a, b, c, d, e, f, high, low] = address.segments();
    let last = |high: u16, low: u16| Ipv4Addr::from(u32::from(high) << 16 | u32::from(low));
    match (a, b, c, d, e, f) {
        (0, 0, 0, 0, 0, 0xffff | 0) => Some(last(high, low)),
        (0x64, 0xff9b, 0, 0, 0, 0) => Some(last(high, low)),
        (0x2002, ..) => Some(last(b, c)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_for_three_days_and_then_it_is_over() {
        let first = Duration::from_secs(5);
        let pause = |failures| pause_after(failures, first, 0.5);
        assert_eq!(pause(0), None);
        for (failures, seconds) in [(1, 5), (2, 30), (3, 120), (4, 600), (10, 12 * 3_600)] {
            assert_eq!(pause(failures), Some(Duration::from_secs(seconds)));
        }
        let all: Duration = (1..).map_while(pause).sum();
        assert!((70..80).contains(&(all.as_secs() / 3_600)), "{all:?}");
        assert_eq!(pause(15), None);
        assert_eq!(pause(u32::MAX), None);
    }

    #[test]
    fn a_pause_is_a_tenth_shorter_or_longer_by_chance() {
        let first = Duration::from_secs(10);
        assert_eq!(pause_after(1, first, 0.0), Some(Duration::from_secs(9)));
        assert_eq!(pause_after(1, first, 1.0), Some(Duration::from_secs(11)));
    }

    #[test]
    fn a_url_is_public_and_plain() {
        for good in ["https://example.com", "https://1.1.1.1:8443/hook?shop=7"] {
            check_url(good, false).unwrap();
        }
        for bad in [
            "",
            "/hook",
            "example.com",
            "http://example.com",
            "ftp://example.com",
            "javascript:alert(1)",
            "https://ada@example.com",
            "https://ada:secret@example.com",
            "https://example.com/#top",
            "https://localhost/",
            "https://shop.localhost./",
            "https://127.0.0.1/",
            "https://0x7f.1/",
            "https://2130706433/",
            "https://[::1]/",
            "https://[::ffff:10.0.0.1]/",
            "https://169.254.169.254/latest/meta-data",
        ] {
            assert!(check_url(bad, false).is_err(), "{bad}");
        }
        let long = format!("https://example.com/{}", "x".repeat(URL_LENGTH_MAX));
        assert!(check_url(&long, true).is_err());
    }

    #[test]
    fn where_private_is_allowed_http_and_this_machine_are() {
        for good in [
            "http://127.0.0.1:9000/",
            "http://localhost/",
            "http://[fd00::1]/",
        ] {
            check_url(good, true).unwrap();
        }
        assert!(check_url("http://ada@127.0.0.1/", true).is_err());
    }

    #[test]
    fn special_addresses_are_not_public() {
        for private in [
            "0.0.0.0",
            "10.1.2.3",
            "100.64.0.1",
            "127.0.0.1",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.8",
            "192.168.1.1",
            "198.18.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:127.0.0.1",
            "::127.0.0.1",
            "64:ff9b::a00:1",
            "64:ff9b:1::1",
            "2002:7f00:1::",
            "2001::1",
            "2001:db8::1",
            "fc00::1",
            "fd00:ec2::254",
            "fe80::1",
            "fec0::1",
            "ff02::1",
        ] {
            assert!(!is_public(private.parse().unwrap()), "{private}");
        }
        for public in [
            "1.1.1.1",
            "100.63.255.255",
            "100.128.0.0",
            "172.32.0.1",
            "192.1.1.1",
            "223.255.255.255",
            "2606:4700::1111",
            "2001:4860:4860::8888",
            "64:ff9b::101:101",
            "2002:101:101::1",
        ] {
            assert!(is_public(public.parse().unwrap()), "{public}");
        }
    }
}
