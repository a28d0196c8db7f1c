//! Malicious titles and names, and invalid requests.

use super::{Site, client::Browser};

const TITLES: [&str; 6] = [
    "<script>document.title = 'taken'</script>",
    "\"><img src=x onerror=\"document.title='taken'\">",
    "</option></select><script src=//evil.example></script>",
    "'); DROP TABLE mainstem_library_web.shelf_copies; --",
    "&lt;b&gt; &amp;amp; {{7*7}} ${7*7}",
    "\u{202e}txet desrever \u{1f4da}",
];

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[tokio::test]
async fn hostile_titles_and_names_are_text_everywhere_and_no_markup() {
    let site = Site::open().await;
    let page = Browser::new(site.address);
    for (title, copy) in TITLES.into_iter().zip(7..) {
        page.post("/copies", &[("name", title)]).await;
        let named = page.post("/readers", &[("name", title)]).await;
        assert_eq!(named.status, 200);
        let reader = (copy - 2).to_string();
        let lent = page.post("/borrow?read=own", &[("reader", &reader), ("copy", &copy.to_string())]).await;
        assert_eq!((lent.holder("desk", copy), lent.holder("room", copy)), (escaped(title), escaped(title)));
    }
    let html = page.get("/?read=own").await.html;
    for title in TITLES {
        assert!(html.contains(&escaped(title)), "{title}");
        assert!(title == escaped(title) || !html.contains(title), "{title}");
    }
    assert_eq!(
        (html.matches("<script").count(), html.matches("<img").count()),
        (1, 0),
        "the page's own script: {html}"
    );
}

#[tokio::test]
async fn invalid_titles_and_views_are_refused_and_harm_nothing() {
    let site = Site::open().await;
    let page = Browser::new(site.address);
    let long = "x".repeat(201);
    for title in ["", "  \t ", "a\0b", "a\nb", &long] {
        for path in ["/copies", "/readers"] {
            assert_eq!(page.post(path, &[("name", title)]).await.status, 422, "{path} {title:?}");
        }
    }
    assert_eq!(page.post("/copies", &[("name", &"ü".repeat(200))]).await.status, 200);
    assert_eq!(page.post("/borrow", &[("reader", "-1"), ("copy", "x")]).await.status, 422);
    // Nobody and nothing: refused by the rules, and told.
    let nobody = page.post("/borrow", &[("reader", "4000000000"), ("copy", "1")]).await;
    assert!(nobody.html.contains("reader 4000000000 borrows “Emma”</strong>: refused, the reader has no contract"));
    assert_eq!(page.get("/?read=%3Cscript%3E").await.status, 400);
    assert_eq!(page.get("/?bound=18446744073709551615&read=bounded").await.status, 200);
    assert_eq!(page.get("/?bound=0&read=bounded").await.status, 200);
    let policy = page.get("/").await.head["content-security-policy"].to_str().unwrap().to_owned();
    assert!(policy.contains("default-src 'none'") && policy.contains("script-src 'self'"), "{policy}");
}
