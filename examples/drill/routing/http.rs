//! `drill http`: browsers write and read through two instances of `examples/http`, one after the other, while both replicas lag by
//! 200 ms and more. A read must include everything that was answered before it was sent.

#[path = "../../http/app.rs"]
mod app;
#[path = "../../http/browser.rs"]
mod browser;

use std::{
    net::SocketAddr,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use axum::{
    body::Body,
    http::{
        HeaderValue, Request, Response,
        header::{COOKIE, SET_COOKIE},
    },
    middleware::{map_request, map_response},
};
use futures_util::future::try_join_all;
use mainstem::{PostgresEventStore, Router, TokenKey, testing::LocalCluster};
use serde_json::{Value, json};
use tokio::{
    net::TcpListener,
    time::{Instant, sleep},
};

use self::browser::{Answer, Browser};
use super::{
    options::Options,
    report::{Report, percentile},
};
use crate::{Outcome, database, schedule};

const BROWSERS: u64 = 64;

/// The number of writes in a round, each followed by a read.
const ROUND: u64 = 1000;

/// The time between two looks at the same page, which go on while the browser writes.
const LOOKS: Duration = Duration::from_millis(20);

/// After this many writes somebody without cookies reads, who may see the past. On a busy machine most answers of writes take so
/// long that the replicas have the writes, too; with few strangers, none would show the lag.
const STRANGER: u64 = 4;

#[derive(Default)]
struct Counts {
    pairs: AtomicU64,
    looks: AtomicU64,
    by_replicas: AtomicU64,
    strangers: AtomicU64,
    strangers_behind: AtomicU64,
    most_cookies: AtomicU64,
    stale: Mutex<Vec<String>>,
    times: Mutex<(Vec<Duration>, Vec<Duration>)>,
}

pub(crate) async fn run(options: &Options) -> Outcome<Report> {
    let cluster = LocalCluster::builder().replicas(2).start().await?;
    database::create(&cluster.primary().url(), None).await?;
    cluster.wait_until_caught_up().await?;
    let instances = [instance(&cluster, options).await?, instance(&cluster, options).await?];
    for (replica, delay) in cluster.replicas().zip(schedule::delays(options.seed)) {
        replica.delay_replay(delay).await?;
    }
    let (counts, goal, start) = (Counts::default(), u64::from(options.rounds) * ROUND, Instant::now());
    try_join_all((0..BROWSERS).map(|number| person(number, &instances, &counts, goal))).await?;

    let mut report = Report::default();
    let [pairs, looks, by_replicas, strangers, behind, most_cookies] = [
        &counts.pairs,
        &counts.looks,
        &counts.by_replicas,
        &counts.strangers,
        &counts.strangers_behind,
        &counts.most_cookies,
    ]
    .map(|count| count.load(Ordering::Relaxed));
    let (mut writes, mut reads) = counts.times.into_inner().unwrap_or_else(PoisonError::into_inner);
    report.promise(
        "who has written something sees it through any instance",
        counts.stale.into_inner().unwrap_or_else(PoisonError::into_inner),
    );
    report.figure("pairs", pairs);
    report.figure("looks", looks);
    let replicas_percent = by_replicas * 100 / (pairs + looks).max(1);
    report.figure("replicas_percent", replicas_percent);
    report.figure("strangers", strangers);
    report.figure("strangers_behind", behind);
    report.figure("most_cookies", most_cookies);
    report.milliseconds("write_p50_ms", percentile(&mut writes, 50));
    report.milliseconds("write_p99_ms", percentile(&mut writes, 99));
    report.milliseconds("read_p50_ms", percentile(&mut reads, 50));
    report.milliseconds("read_p99_ms", percentile(&mut reads, 99));
    report.figure("seconds", start.elapsed().as_secs());
    report.shows(replicas_percent >= 50, format!("replicas have served {replicas_percent} % of the reads"));
    report.shows(behind > 0, format!("none of {strangers} readers without cookies saw the past"));
    Ok(report)
}

/// Starts an instance with its own router, on its own port.
async fn instance(cluster: &LocalCluster, options: &Options) -> Outcome<SocketAddr> {
    let builder =
        Router::builder().primary(cluster.primary().url()).replicas(cluster.replicas().map(|node| node.url()));
    // Replicas must serve: the primary is never stale, and would hide everything.
    let limit = Duration::from_secs(30);
    let router = builder.max_connections(24).acquire_timeout(limit).replay_wait(limit).connect().await?;
    let mut app = app::app(PostgresEventStore::new(&router), TokenKey::new("the secret of both instances")?);
    if options.is_broken_by("token-not-taken") {
        app = app.layer(map_request(without_cookies));
    } else if options.is_broken_by("token-not-given") {
        app = app.layer(map_response(without_set_cookies));
    } else if options.is_broken_by("one-cookie") {
        app = app.layer(map_response(with_one_cookie));
    }
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move { axum::serve(listener, app).await });
    Ok(address)
}

async fn without_cookies(mut request: Request<Body>) -> Request<Body> {
    request.headers_mut().remove(COOKIE);
    request
}

async fn without_set_cookies(mut response: Response<Body>) -> Response<Body> {
    response.headers_mut().remove(SET_COOKIE);
    response
}

/// The tokens of writes and reads share one cookie: the last answer wins.
async fn with_one_cookie(mut response: Response<Body>) -> Response<Body> {
    let headers = response.headers_mut();
    let lines: Vec<_> = headers.get_all(SET_COOKIE).iter().filter_map(|line| line.to_str().ok()).collect();
    let given = lines.into_iter().find(|line| !line.contains("Max-Age=0"));
    let one = given.and_then(|line| Some(format!("mainstem-token={}", line.split_once('=')?.1)));
    if let Some(one) = one.and_then(|one| HeaderValue::try_from(one).ok()) {
        headers.insert(SET_COOKIE, one);
    }
    response
}

/// A reader who lends a copy, looks at the list, returns it, and looks again. Meanwhile the page also looks by itself all the time.
async fn person(number: u64, instances: &[SocketAddr; 2], counts: &Counts, goal: u64) -> Outcome {
    let (browser, path) = (Browser::new(*instances), format!("/readers/{number}/loans"));
    // The number of the last write that was answered.
    let answered = AtomicU64::new(0);
    let post = async |path: &str, body: Value| -> Outcome {
        let start = Instant::now();
        let answer = expect_ok(browser.post(path, &body).await?)?;
        let position = answer.body["position"].as_u64().ok_or_else(|| format!("{path} {body} wrote nothing"))?;
        answered.store(position, Ordering::SeqCst);
        lock(&counts.times).0.push(start.elapsed());
        Ok(())
    };
    let get = async |has_copy: Option<bool>| -> Outcome {
        let (least, start) = (answered.load(Ordering::SeqCst), Instant::now());
        let answer = expect_ok(browser.get(&path).await?)?;
        let seen: u64 = answer.header("as-of").parse()?;
        let has = answer.body["copies"].as_array().is_some_and(|copies| !copies.is_empty());
        if seen < least || has_copy.is_some_and(|expected| expected != has) {
            let by = answer.header("served-by");
            lock(&counts.stale).push(format!("browser {number} sees {seen} behind {least} ({}) by {by}", answer.body));
        }
        counts.by_replicas.fetch_add(u64::from(answer.header("served-by").starts_with("replica")), Ordering::Relaxed);
        if has_copy.is_some() {
            lock(&counts.times).1.push(start.elapsed());
        }
        Ok(())
    };
    post("/copies", json!({"copy": number, "title": "Logic"})).await?;
    post("/readers", json!({"reader": number, "name": "Ada"})).await?;
    let loan = json!({"copy": number, "reader": number});
    let writes = async {
        let mut own = 0;
        while counts.pairs.fetch_add(1, Ordering::Relaxed) < goal {
            own += 1;
            post(if own % 2 == 1 { "/loans" } else { "/loans/finished" }, loan.clone()).await?;
            if own % STRANGER == 0 {
                let answer = expect_ok(Browser::new([instances[0]]).get(&path).await?)?;
                let is_behind = answer.header("as-of").parse::<u64>()? < answered.load(Ordering::SeqCst);
                counts.strangers.fetch_add(1, Ordering::Relaxed);
                counts.strangers_behind.fetch_add(u64::from(is_behind), Ordering::Relaxed);
            }
            get(Some(own % 2 == 1)).await?;
            let cookies = browser.cookie_line().split(';').count() as u64;
            counts.most_cookies.fetch_max(cookies, Ordering::Relaxed);
        }
        // Takes back the one too many.
        counts.pairs.fetch_sub(1, Ordering::Relaxed);
        Outcome::Ok(())
    };
    let looks = async {
        loop {
            get(None).await?;
            counts.looks.fetch_add(1, Ordering::Relaxed);
            sleep(LOOKS).await;
        }
    };
    tokio::select! {
        ended = writes => ended,
        ended = looks => ended,
    }
}

fn expect_ok(answer: Answer) -> Outcome<Answer> {
    if answer.status != 200 {
        return Err(format!("an answer with the status {}: {}", answer.status, answer.body).into());
    }
    Ok(answer)
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
