//! `Cache-Control`: keeps a response for one client from being shown to another, or to the same client once it is
//! outdated.

use http::{HeaderMap, HeaderName, HeaderValue, header::CACHE_CONTROL};

/// Makes a response private to the client; `false` if its handler declares it public.
pub(super) fn make_private(response: &mut HeaderMap, is_read: bool) -> bool {
    let says = |names: &[&str]| directives(response).any(|said| names.iter().any(|name| is_named(said, name)));
    if is_read && says(&["public", "s-maxage"]) {
        return false;
    }
    // With a list of fields, only these must not be stored by a shared cache (RFC 9111, section 5.2.2.7).
    let is_private = directives(response).any(|said| said.eq_ignore_ascii_case("private"));
    if !is_private && !says(&["no-store"]) {
        let is_silent = directives(response).next().is_none();
        let more = if is_silent { "private, no-cache" } else { "private" };
        response.append(CACHE_CONTROL, HeaderValue::from_static(more));
    }
    true
}

/// Forbids every cache to store the response, including the client's: it is delivered once.
pub(super) fn make_unkept(response: &mut HeaderMap) {
    response.insert(CACHE_CONTROL, HeaderValue::from_static("private, no-store"));
    remove_targeted(response);
}

/// Removes directives for particular caches: they override `Cache-Control` there (RFC 9213), so those caches would
/// store what it forbids.
pub(super) fn remove_targeted(response: &mut HeaderMap) {
    let is_targeted = |name: &&HeaderName| {
        let name = name.as_str();
        // Of the CDNs, of nginx, Akamai and LiteSpeed.
        matches!(
            name,
            "cdn-cache-control"
                | "surrogate-control"
                | "x-accel-expires"
                | "edge-control"
                | "x-litespeed-cache-control"
        ) || name.ends_with("-cdn-cache-control")
    };
    let targeted: Vec<HeaderName> = response.keys().filter(is_targeted).cloned().collect();
    for name in targeted {
        response.remove(name);
    }
}

/// The directives, with their values. A comma in quotes is part of a value.
fn directives(response: &HeaderMap) -> impl Iterator<Item = &str> {
    let lines = response.get_all(CACHE_CONTROL).iter().filter_map(|line| line.to_str().ok());
    let directives = lines.flat_map(|line| {
        let mut is_quoted = false;
        line.split(move |sign| {
            is_quoted ^= sign == '"';
            sign == ',' && !is_quoted
        })
    });
    directives.map(str::trim)
}

fn is_named(directive: &str, name: &str) -> bool {
    directive.split('=').next().is_some_and(|said| said.trim().eq_ignore_ascii_case(name))
}
