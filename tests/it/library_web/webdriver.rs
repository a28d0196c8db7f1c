//! Headless Chromium, through its driver: as much of WebDriver as the page's test needs.

use std::{
    net::SocketAddr,
    path::Path,
    process::{ExitStatus, Stdio},
    time::Duration,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use http::{
    Method, Request,
    header::{CONTENT_TYPE, HOST},
};
use http_body_util::Full;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
    time::{sleep, timeout},
};

use super::{HANG, client::exchange};

/// A browser with one window. Its driver ends with it, and the browser with its driver: they talk by a pipe.
pub(super) struct Chromium {
    driver: Child,
    address: SocketAddr,
    session: String,
}

impl Chromium {
    pub(super) async fn start(driver: &Path) -> Self {
        let mut command = Command::new(driver);
        command.arg("--port=0").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true);
        let mut driver = command.spawn().expect("chromedriver");
        let mut lines = BufReader::new(driver.stdout.take().expect("its output")).lines();
        let started = async {
            loop {
                let line = lines.next_line().await.unwrap().expect("chromedriver says where it listens");
                if let Some((_, port)) = line.split_once("started successfully on port ") {
                    return port.trim_end_matches('.').parse::<u16>().unwrap();
                }
            }
        };
        let port = timeout(HANG, started).await.expect("chromedriver starts");
        // Whatever else it says must not fill the pipe.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        let mut browser = Self { driver, address: ([127, 0, 0, 1], port).into(), session: String::new() };
        let arguments = [
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--hide-scrollbars",
            "--remote-debugging-pipe",
            "--window-size=1120,960",
        ];
        let asked = json!({"capabilities": {"alwaysMatch": {
            "goog:chromeOptions": {"args": arguments},
            "goog:loggingPrefs": {"browser": "ALL"},
        }}});
        let session = browser.send(Method::POST, "/session", asked).await;
        browser.session = format!("/session/{}", session["sessionId"].as_str().expect("a session"));
        browser
    }

    /// What the driver answers.
    async fn send(&self, method: Method, path: &str, body: Value) -> Value {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.session))
            .header(HOST, self.address.to_string())
            .header(CONTENT_TYPE, "application/json")
            .body(Full::new(body.into()))
            .unwrap();
        let answer: Value = serde_json::from_slice(exchange(self.address, request).await.body()).unwrap();
        assert!(answer["value"]["error"].is_null(), "{path}: {}", answer["value"]);
        answer["value"].clone()
    }

    pub(super) async fn go(&self, url: &str) {
        self.send(Method::POST, "/url", json!({"url": url})).await;
    }

    async fn element(&self, css: &str) -> String {
        let found = self.send(Method::POST, "/element", json!({"using": "css selector", "value": css})).await;
        found.as_object().and_then(|it| it.values().next()?.as_str()).expect("an element").to_owned()
    }

    /// A click as a person makes it: on what is there to be seen.
    pub(super) async fn click(&self, css: &str) {
        let element = self.element(css).await;
        self.send(Method::POST, &format!("/element/{element}/click"), json!({})).await;
    }

    pub(super) async fn type_into(&self, css: &str, text: &str) {
        let element = self.element(css).await;
        self.send(Method::POST, &format!("/element/{element}/value"), json!({"text": text})).await;
    }

    /// What a function's body returns in the page.
    pub(super) async fn run(&self, script: &str) -> Value {
        self.send(Method::POST, "/execute/sync", json!({"script": script, "args": []})).await
    }

    /// The text of an element, and nothing where there is none.
    pub(super) async fn text(&self, css: &str) -> String {
        let css = Value::from(css);
        let text = self.run(&format!("return document.querySelector({css})?.textContent ?? ''")).await;
        text.as_str().unwrap_or_default().to_owned()
    }

    /// Waits until an element has this text: the page is being read anew, or another one has been asked for.
    pub(super) async fn wait_for(&self, css: &str, expected: &str) {
        let waited = async {
            while self.text(css).await != expected {
                sleep(Duration::from_millis(50)).await;
            }
        };
        if timeout(HANG, waited).await.is_err() {
            panic!("{css} is {:?}, and not {expected:?}", self.text(css).await);
        }
    }

    /// A command of the browser's own protocol.
    pub(super) async fn devtools(&self, command: &str, parameters: Value) {
        self.send(Method::POST, "/goog/cdp/execute", json!({"cmd": command, "params": parameters})).await;
    }

    /// What the page has complained of: errors of its script, and what its policy has refused.
    pub(super) async fn complaints(&self) -> Vec<String> {
        let log = self.send(Method::POST, "/se/log", json!({"type": "browser"})).await;
        log.as_array().expect("a list").iter().map(|entry| entry["message"].to_string()).collect()
    }

    pub(super) async fn screenshot(&self, file: &Path) {
        let image = self.send(Method::GET, "/screenshot", Value::Null).await;
        let image = STANDARD.decode(image.as_str().expect("an image")).unwrap();
        std::fs::write(file, image).unwrap();
    }

    pub(super) async fn close(mut self) -> ExitStatus {
        self.send(Method::DELETE, "", Value::Null).await;
        self.driver.start_kill().unwrap();
        timeout(HANG, self.driver.wait()).await.expect("its end").unwrap()
    }
}
