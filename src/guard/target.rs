//! The request target (RFC 9112 §3.2) and the authority in it and in `Host`.

use std::net::Ipv6Addr;
use std::ops::Range;

use super::class;
use super::reject::Reason;

/// Checks a target of any form but CONNECT's and says where in it the authority stands, if it has one.
pub fn check_target(method: &[u8], target: &[u8]) -> Result<Option<Range<usize>>, Reason> {
    if target.first() == Some(&b'/') {
        return check_path_and_query(target).map(|()| None);
    }
    if target == b"*" {
        return if method == b"OPTIONS" { Ok(None) } else { Err(Reason::BadTarget) };
    }
    let scheme_bytes = [&b"http://"[..], b"https://"]
        .iter()
        .find(|scheme| target.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme)))
        .map(|scheme| scheme.len())
        .ok_or(Reason::BadTarget)?;
    let after_scheme = target.get(scheme_bytes..).unwrap_or_default();
    let authority_bytes =
        after_scheme.iter().position(|byte| matches!(byte, b'/' | b'?' | b'#')).unwrap_or(after_scheme.len());
    let (authority, path_and_query) = after_scheme.split_at(authority_bytes);
    check_path_and_query(path_and_query)?;
    if !is_authority(authority) {
        return Err(Reason::BadTarget);
    }
    Ok(Some(scheme_bytes..scheme_bytes + authority_bytes))
}

fn check_path_and_query(text: &[u8]) -> Result<(), Reason> {
    let path_bytes = text.iter().position(|&byte| !class::is_path(byte)).unwrap_or(text.len());
    let after_path = text.get(path_bytes..).unwrap_or_default();
    let stray = match after_path {
        [b'?', query @ ..] => query.iter().find(|&&byte| !class::is_query(byte)),
        other => other.first(),
    };
    match stray {
        None => Ok(()),
        Some(b'#') => Err(Reason::FragmentInTarget),
        Some(_) => Err(Reason::BadTarget),
    }
}

/// `uri-host [ ":" port ]` (RFC 9110 §7.2), stricter: no user, no percent-encoding, no comma, and a colon is
/// followed by a port that exists.
pub fn is_authority(authority: &[u8]) -> bool {
    let (host_is_good, port) = match authority {
        [b'[', rest @ ..] => {
            let Some(end) = rest.iter().position(|&byte| byte == b']') else { return false };
            let (address, port) = rest.split_at(end);
            (is_ipv6(address), port.get(1..).unwrap_or_default())
        }
        _ => {
            let end = authority.iter().position(|&byte| !class::is_host(byte)).unwrap_or(authority.len());
            (end > 0, authority.get(end..).unwrap_or_default())
        }
    };
    host_is_good
        && match port {
            [] => true,
            [b':', digits @ ..] => is_port(digits),
            _ => false,
        }
}

fn is_ipv6(address: &[u8]) -> bool {
    str::from_utf8(address).is_ok_and(|address| address.parse::<Ipv6Addr>().is_ok())
}

fn is_port(digits: &[u8]) -> bool {
    // `u16::from_str` takes a sign, too.
    digits.iter().all(u8::is_ascii_digit) && str::from_utf8(digits).is_ok_and(|digits| digits.parse::<u16>().is_ok())
}
