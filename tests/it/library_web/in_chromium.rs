//! The page as a browser shows it. `scripts/test-page` runs it; otherwise it is skipped, and says so.

use std::path::PathBuf;

use serde_json::json;

use super::{Site, webdriver::Chromium};

/// Keeps a screenshot, where there is a place for it.
async fn screenshot(browser: &Chromium, name: &str) {
    if let Some(folder) = std::env::var_os("MAINSTEM_TEST_SCREENSHOTS").map(PathBuf::from) {
        browser.screenshot(&folder.join(format!("{name}.png"))).await;
    }
}

#[tokio::test]
async fn a_person_sees_the_past_and_then_what_she_has_written() {
    let Some(driver) = std::env::var_os("MAINSTEM_TEST_CHROMEDRIVER").map(PathBuf::from) else {
        eprintln!("SKIPPED: the page is not looked at in a browser (scripts/test-page does)");
        return;
    };
    let (site, browser) = (Site::open().await, Chromium::start(&driver).await);
    let holder = |pane: &str| format!("#{pane} tr[data-copy='1'] .holder");
    browser.go(&format!("http://{}", site.address)).await;
    assert_eq!(browser.text("title").await, "Lending library");
    browser.wait_for(&holder("room"), "on the shelf").await;

    // Whoever does not see the page is told what each field is.
    let unnamed = "return [...document.querySelectorAll('input:not([type=hidden]), select')]
        .filter((field) => field.labels.length !== 1).map((field) => field.outerHTML)";
    assert_eq!(browser.run(unnamed).await, json!([]));
    let buttons = "return [...document.querySelectorAll('button')].filter((it) => it.textContent.trim() === '').length";
    assert_eq!(browser.run(buttons).await, json!(0));

    // Both replicas are held: what is borrowed is not to be seen in the reading room.
    for index in 0..2 {
        browser.click(&format!("#hold-{index}")).await;
        browser.wait_for(&format!("#hold-{index}"), "Let replay go on").await;
    }
    browser.click("#borrow").await;
    browser.wait_for(&holder("desk"), "Ada").await;
    assert_eq!(browser.text(&holder("room")).await, "on the shelf");
    assert_eq!(browser.text("#room-role").await, "replica");
    assert_eq!(browser.text("#room-behind").await, "1 event behind the desk");
    let told = browser.text("#told").await;
    assert!(told.starts_with("Ada borrows “Emma”: done, at position 11, by the primary 127.0.0.1:"), "{told}");
    screenshot(&browser, "stale").await;

    // One's own writes: the choice is enough, no button is needed.
    browser.click("input[value=own]").await;
    browser.wait_for(&holder("room"), "Ada").await;
    assert_eq!(browser.text("#room-role").await, "primary");
    assert_eq!(browser.text("#room-behind").await, "as the desk knows it");
    screenshot(&browser, "own-writes").await;

    // The page is read anew by itself: the replica takes over, and nobody has touched anything.
    site.let_go(&site.replicas().await).await;
    browser.wait_for("#room-role", "replica").await;
    assert_eq!(browser.text(&holder("room")).await, "Ada");

    // The slider says its value while it is moved.
    browser
        .run("const it = document.getElementById('delay-0'); it.value = 3.5; it.dispatchEvent(new Event('input'))")
        .await;
    assert_eq!(browser.text("output").await, "3.5 s");
    browser.click("#set-0").await;
    browser.wait_for("#nodes tr:nth-child(2) .replay", "delayed by 3.5 s").await;

    // Markup in a title is text.
    let title = "<script>document.title = 'taken'</script><img src=x onerror=\"document.title = 'taken'\">";
    browser.click("summary").await;
    browser.type_into("#title", title).await;
    browser.click("form[action^='/copies'] button").await;
    browser.wait_for("#desk tr[data-copy='7'] td", title).await;
    assert_eq!(browser.text("title").await, "Lending library");

    // In the dark, and on a phone, where nothing sticks out.
    let dark = json!({"features": [{"name": "prefers-color-scheme", "value": "dark"}]});
    browser.devtools("Emulation.setEmulatedMedia", dark).await;
    screenshot(&browser, "dark").await;
    let phone = json!({"width": 390, "height": 2600, "deviceScaleFactor": 1, "mobile": true});
    browser.devtools("Emulation.setDeviceMetricsOverride", phone).await;
    screenshot(&browser, "phone").await;
    let sticks_out = browser.run("return document.documentElement.scrollWidth - window.innerWidth").await;
    assert!(sticks_out.as_i64().is_some_and(|pixels| pixels <= 0), "{sticks_out} pixels");

    let complaints = browser.complaints().await;
    assert!(complaints.is_empty(), "{complaints:?}");
    browser.close().await;
}
