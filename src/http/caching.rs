//! `Cache-Control`, so that what one client may see is not shown to another one, or to itself when it is out of date.

use http::{HeaderMap, HeaderValue, header::CACHE_CONTROL};

/// Makes a response the client's own; `false` if its handler says that it is for everybody.
pub(super) fn make_private(response: &mut HeaderMap, is_read: bool) -> bool {
    let says =
        |names: &[&str]| directives(response).any(|said| names.iter().any(|name| said.eq_ignore_ascii_case(name)));
    if is_read && says(&["public", "s-maxage"]) {
        return false;
    }
    if !says(&["private", "no-store"]) {
        let is_silent = directives(response).next().is_none();
        let more = if is_silent { "private, no-cache" } else { "private" };
        response.append(CACHE_CONTROL, HeaderValue::from_static(more));
    }
    true
}

/// Has nobody keep a response, not even the client: it is told once.
pub(super) fn make_unkept(response: &mut HeaderMap) {
    response.insert(CACHE_CONTROL, HeaderValue::from_static("private, no-store"));
}

/// The names of the directives, without their values.
fn directives(response: &HeaderMap) -> impl Iterator<Item = &str> {
    let lines = response.get_all(CACHE_CONTROL).iter().filter_map(|line| line.to_str().ok());
    lines.flat_map(|line| line.split(',')).filter_map(|directive| directive.split('=').next()).map(str::trim)
}
