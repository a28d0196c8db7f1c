//! A browser without a screen: it sends forms, keeps cookies, follows redirects, and finds texts by their ids.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Mutex, PoisonError},
};

use http::{
    Method, Request, Response,
    header::{CONTENT_TYPE, COOKIE, HOST, LOCATION, SET_COOKIE},
};
use http_body_util::{BodyExt, Full};
use hyper::{body::Bytes, client::conn::http1::handshake};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, time::timeout};

use super::HANG;

/// One request on a connection of its own.
pub(super) async fn exchange(address: SocketAddr, request: Request<Full<Bytes>>) -> Response<Bytes> {
    let exchange = async {
        let stream = TcpStream::connect(address).await.unwrap();
        let (mut sender, connection) = handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        let (head, body) = sender.send_request(request).await.unwrap().into_parts();
        Response::from_parts(head, body.collect().await.unwrap().to_bytes())
    };
    timeout(HANG, exchange).await.expect("an answer")
}

pub(super) struct Browser {
    address: SocketAddr,
    cookies: Mutex<BTreeMap<String, String>>,
}

/// A page that has come.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) html: String,
    pub(super) head: http::HeaderMap,
}

impl Browser {
    pub(super) fn new(address: SocketAddr) -> Self {
        Self { address, cookies: Mutex::default() }
    }

    pub(super) async fn get(&self, path: &str) -> Answer {
        self.send(Method::GET, path, String::new()).await
    }

    /// Sends a form, and goes where the answer says.
    pub(super) async fn post(&self, path: &str, fields: &[(&str, &str)]) -> Answer {
        let encode =
            |text: &str| percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string();
        let fields: Vec<_> = fields.iter().map(|(name, value)| format!("{name}={}", encode(value))).collect();
        let answer = self.send(Method::POST, path, fields.join("&")).await;
        match answer.head.get(LOCATION) {
            Some(place) => self.get(place.to_str().unwrap()).await,
            None => answer,
        }
    }

    async fn send(&self, method: Method, path: &str, body: String) -> Answer {
        let cookies = self.cookies().iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>();
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, "library.example")
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .header(COOKIE, cookies.join("; "))
            .body(Full::new(Bytes::from(body)))
            .unwrap();
        let (head, body) = exchange(self.address, request).await.into_parts();
        for line in head.headers.get_all(SET_COOKIE) {
            let (pair, attributes) = line.to_str().unwrap().split_once(';').unwrap();
            let (name, value) = pair.split_once('=').unwrap();
            match attributes.contains("Max-Age=0") {
                true => drop(self.cookies().remove(name)),
                false => drop(self.cookies().insert(name.to_owned(), value.to_owned())),
            }
        }
        let html = String::from_utf8(body.to_vec()).unwrap();
        Answer { status: head.status.as_u16(), html, head: head.headers }
    }

    fn cookies(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, String>> {
        self.cookies.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Answer {
    /// What follows this part of the page.
    fn behind<'a>(&'a self, mark: &str) -> &'a str {
        self.html.split_once(mark).unwrap_or_else(|| panic!("no {mark} in {}", self.html)).1
    }

    /// The text of the element with this id, without its tags.
    pub(super) fn text(&self, id: &str) -> String {
        // Up to the element's end: at most one tag is in front of the text.
        let (_, inner) = self.behind(&format!("id=\"{id}\"")).split_once('>').expect("an element");
        let text = inner.split(['<', '>']).find(|part| !part.is_empty() && !part.starts_with("span"));
        text.unwrap_or_default().to_owned()
    }

    /// Who has a copy, as this pane shows it: `desk` or `room`.
    pub(super) fn holder(&self, pane: &str, copy: u32) -> String {
        let rest = self.behind(&format!("id=\"{pane}\""));
        let row = rest.split_once(&format!("data-copy=\"{copy}\"")).expect("the copy").1;
        row.split_once("class=\"holder\">").expect("a holder").1.split('<').next().unwrap().to_owned()
    }
}
