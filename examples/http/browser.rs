//! The part of a browser that matters here: it keeps cookies, and asks one instance after the other.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::http::{
    HeaderMap, Method, Request, Response, StatusCode,
    header::{CONTENT_TYPE, COOKIE, HOST, SET_COOKIE},
};
use http_body_util::{BodyExt, Full};
use hyper::{
    body::Bytes,
    client::conn::http1::{SendRequest, handshake},
};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::{net::TcpStream, time::timeout};

type Result<T, E = Box<dyn std::error::Error + Send + Sync>> = std::result::Result<T, E>;

/// Longer than any answer takes.
const LIMIT: Duration = Duration::from_secs(60);

pub(crate) struct Browser {
    instances: Vec<SocketAddr>,
    requests: AtomicUsize,
    cookies: Mutex<BTreeMap<String, String>>,
    /// Idle connections, by instance.
    idle: Vec<Mutex<Vec<SendRequest<Full<Bytes>>>>>,
}

pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    /// `null` if there was none.
    pub(crate) body: Value,
}

impl Answer {
    /// A header's value, empty if the header is absent.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }
}

impl Browser {
    pub(crate) fn new(instances: impl IntoIterator<Item = SocketAddr>) -> Self {
        let instances: Vec<_> = instances.into_iter().collect();
        let idle = instances.iter().map(|_| Mutex::default()).collect();
        Self { instances, requests: AtomicUsize::new(0), cookies: Mutex::default(), idle }
    }

    pub(crate) async fn get(&self, path: &str) -> Result<Answer> {
        self.send(Method::GET, path, &Value::Null).await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Result<Answer> {
        self.send(Method::POST, path, body).await
    }

    /// Sends a request to the next instance, with all cookies, and keeps the cookies of the response.
    async fn send(&self, method: Method, path: &str, body: &Value) -> Result<Answer> {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, "library.example")
            .header(CONTENT_TYPE, "application/json")
            .header(COOKIE, self.cookie_line())
            .body(Full::new(Bytes::from(if body.is_null() { String::new() } else { body.to_string() })))?;
        let instance = self.requests.fetch_add(1, Ordering::Relaxed) % self.instances.len();
        let response = timeout(LIMIT, self.exchange(instance, request));
        let response = response.await.map_err(|_| format!("no answer within {LIMIT:?}"))??;
        self.keep(response.headers());
        let (head, body) = response.into_parts();
        let body = if body.is_empty() { Value::Null } else { serde_json::from_slice(&body).unwrap_or(Value::Null) };
        Ok(Answer { status: head.status, headers: head.headers, body })
    }

    async fn exchange(&self, instance: usize, request: Request<Full<Bytes>>) -> Result<Response<Bytes>> {
        let idle = lock(&self.idle[instance]).pop();
        let mut connection = match idle.filter(|connection| !connection.is_closed()) {
            Some(connection) => connection,
            None => connect(self.instances[instance]).await?,
        };
        connection.ready().await?;
        let (head, body) = connection.send_request(request).await?.into_parts();
        let body = body.collect().await?.to_bytes();
        lock(&self.idle[instance]).push(connection);
        Ok(Response::from_parts(head, body))
    }

    pub(crate) fn cookie_line(&self) -> String {
        let cookies = lock(&self.cookies);
        cookies.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("; ")
    }

    fn keep(&self, response: &HeaderMap) {
        let mut cookies = lock(&self.cookies);
        for line in response.get_all(SET_COOKIE).iter().filter_map(|line| line.to_str().ok()) {
            let (pair, attributes) = line.split_once(';').unwrap_or((line, ""));
            let Some((name, value)) = pair.split_once('=') else { continue };
            if attributes.split(';').any(|attribute| attribute.trim() == "Max-Age=0") {
                cookies.remove(name);
            } else {
                cookies.insert(name.to_owned(), value.to_owned());
            }
        }
    }
}

async fn connect(instance: SocketAddr) -> Result<SendRequest<Full<Bytes>>> {
    let stream = TcpStream::connect(instance).await?;
    stream.set_nodelay(true)?;
    let (sender, connection) = handshake(TokioIo::new(stream)).await?;
    // The task ends when the sender is dropped.
    tokio::spawn(async move { drop(connection.await) });
    Ok(sender)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
