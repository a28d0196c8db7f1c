//! What a user must see: the past, what is no older than a bound, and their own writes.

use std::time::Duration;

use tokio::time::{sleep, timeout};

use mainstem::{EventStore, Filter, testing::LocalCluster};

use super::{
    HANG, Site,
    client::{Answer, Browser},
    example::{app::Library, nodes::Nodes},
    serve,
};
use crate::support::started;

/// Who has served the reading room, and who has the book there.
fn room(answer: &Answer, copy: u32) -> (String, String) {
    (answer.text("room-role"), answer.holder("room", copy))
}

fn pair(role: &str, holder: &str) -> (String, String) {
    (role.to_owned(), holder.to_owned())
}

async fn until(what: &str, mut ask: impl AsyncFnMut() -> bool) {
    let waited = async {
        while !ask().await {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(HANG, waited).await.unwrap_or_else(|_| panic!("{what} did not come"));
}

const ADA_BORROWS_EMMA: [(&str, &str); 2] = [("reader", "1"), ("copy", "1")];

#[tokio::test]
async fn while_all_replicas_are_held_only_who_asks_for_more_sees_what_was_borrowed() {
    let site = Site::open().await;
    let replicas = site.replicas().await;
    site.hold(&replicas).await;
    let (ada, stranger) = (Browser::new(site.address), Browser::new(site.address));
    let lent = ada.post("/borrow?read=eventual", &ADA_BORROWS_EMMA).await;

    // Told who decided, where, and at what cost; the desk knows, and the reading room says by how much it does not.
    assert_eq!((lent.status, lent.text("desk-role").as_str()), (200, "primary"));
    assert!(
        lent.html.contains("Ada borrows “Emma”</strong>: done, at position 11, by the primary 127.0.0.1:"),
        "{}",
        lent.html
    );
    assert_eq!((lent.holder("desk", 1), lent.text("desk-position")), ("Ada".to_owned(), "11".to_owned()));
    assert_eq!(room(&lent, 1), pair("replica", "on the shelf"));
    assert_eq!(
        (lent.text("room-position"), lent.text("room-behind")),
        ("10".to_owned(), "1 event behind the desk".to_owned())
    );
    assert!(lent.html.contains("<small>by now: Ada</small>"), "{}", lent.html);

    // Her own writes, by her cookie. A stranger has none, and sees the past whatever he asks for.
    assert_eq!(room(&ada.get("/?read=own").await, 1), pair("primary", "Ada"));
    assert_eq!(room(&stranger.get("/?read=own").await, 1), pair("replica", "on the shelf"));
    assert_eq!(room(&stranger.get("/?read=strong").await, 1), pair("primary", "Ada"));
    // No replica is known to be so fresh, once a second has passed since the write.
    until("a bound that no replica keeps", async || {
        room(&stranger.get("/?read=bounded&bound=1").await, 1) == pair("primary", "Ada")
    })
    .await;
    // The write is not older than a minute: replicas keep that bound, and show the past.
    assert_eq!(room(&stranger.get("/?read=bounded&bound=60").await, 1), pair("replica", "on the shelf"));
    // And what everybody may be shown has not changed by her looking at her own.
    assert_eq!(room(&ada.get("/?read=eventual").await, 1), pair("replica", "on the shelf"));

    site.let_go(&replicas).await;
    until("what was borrowed, on a replica", async || {
        room(&stranger.get("/?read=eventual").await, 1) == pair("replica", "Ada")
    })
    .await;
    until("her own writes, on a replica", async || room(&ada.get("/?read=own").await, 1) == pair("replica", "Ada"))
        .await;
}

#[tokio::test]
async fn while_one_replica_is_held_the_other_serves_who_asks_for_more() {
    let site = Site::open().await;
    let replicas = site.replicas().await;
    site.hold(&replicas[..1]).await;
    let ada = Browser::new(site.address);
    ada.post("/borrow", &ADA_BORROWS_EMMA).await;
    until("the fresh replica", async || room(&ada.get("/?read=own").await, 1) == pair("replica", "Ada")).await;
    // From then on it is always that one, or else the primary; and without a session the held one is seen again.
    for _ in 0..20 {
        assert_eq!(ada.get("/?read=own").await.holder("room", 1), "Ada");
    }
    until("the past", async || room(&ada.get("/?read=eventual").await, 1) == pair("replica", "on the shelf")).await;
}

#[tokio::test]
async fn a_browser_is_answered_once_the_read_model_has_its_write_and_its_cookie_says_so() {
    let site = Site::open().await;
    let (replicas, store) = (site.replicas().await, &site.library.store);
    // The projection cannot write, so that replicas get the event and not what it leads to.
    let lock = store.router().client().await.unwrap();
    lock.batch_execute("BEGIN; LOCK TABLE mainstem_library_web.shelf_position IN SHARE MODE").await.unwrap();
    let ada = Browser::new(site.address);
    let released = async {
        until("the event", async || *store.count(&Filter::any_event()).await.unwrap() == 11).await;
        site.library.nodes.wait_until_caught_up().await.unwrap();
        site.hold(&replicas).await;
        lock.batch_execute("ROLLBACK").await.unwrap();
    };
    let (lent, ()) = tokio::join!(ada.post("/borrow?read=own", &ADA_BORROWS_EMMA), released);
    assert_eq!(room(&lent, 1), pair("primary", "Ada"), "the replicas have the event, and not the read model");
}

#[tokio::test]
async fn a_decision_on_what_a_held_replica_shows_is_a_conflict_and_made_anew() {
    let site = Site::open().await;
    let replicas = site.replicas().await;
    let ada = Browser::new(site.address);
    site.hold(&replicas).await;
    ada.post("/borrow", &ADA_BORROWS_EMMA).await;
    let asked = [("reader", "2"), ("copy", "1"), ("replica_first", "true")];
    let told = ada.post("/borrow", &asked).await;
    let refused = "Emmy borrows “Emma”, decided on what a replica shows</strong>: refused, the copy is lent out, at position 12, \
                   by the primary";
    assert!(told.html.contains(refused), "{}", told.html);
    assert!(told.html.contains("after a conflict"), "{}", told.html);
    assert_eq!((told.text("conflicts").as_str(), told.holder("desk", 1).as_str()), ("1", "Ada"));
}

#[tokio::test]
async fn concurrent_loans_of_a_copy_have_one_winner_and_count_conflicts() {
    let site = Site::open().await;
    let both = Browser::new(site.address);
    let mut conflicts = 0;
    // Most times the two meet. If one is slow, it is refused at its first look.
    for round in 1.. {
        assert!(round <= 50, "they have never met");
        let told = both.post("/race", &[("reader", "1"), ("rival", "2"), ("copy", "3")]).await;
        let holder = told.holder("desk", 3);
        assert_eq!(told.html.matches("</strong>: done, at position").count(), 1, "{}", told.html);
        assert_eq!(told.html.matches("</strong>: refused, the copy is lent out").count(), 1, "{}", told.html);
        conflicts = told.text("conflicts").parse().unwrap();
        if conflicts > 0 {
            break;
        }
        let reader = if holder == "Ada" { "1" } else { "2" };
        both.post("/return", &[("reader", reader), ("copy", "3")]).await;
    }
    assert_eq!(conflicts, 1);
}

#[tokio::test]
async fn the_slider_delays_a_replica_the_button_holds_it_and_both_are_told() {
    let site = Site::open().await;
    let replicas = site.replicas().await;
    let page = Browser::new(site.address);
    let delayed = page.post("/replay", &[("replica", &replicas[0]), ("delay", "2.5")]).await;
    assert!(delayed.html.contains("<td class=\"replay\">delayed by 2.5 s</td>"), "{}", delayed.html);
    assert!(delayed.html.contains("replay is delayed by 2.5s</strong>: done, by the replica"), "{}", delayed.html);
    // Longer than the slider goes.
    let most = page.post("/replay", &[("replica", &replicas[0]), ("delay", "86400")]).await;
    assert!(most.html.contains("<td class=\"replay\">delayed by 10.0 s</td>"), "{}", most.html);
    let held = page.post("/replay", &[("replica", &replicas[1]), ("hold", "true")]).await;
    assert!(held.html.contains("<td class=\"replay\">held</td>"), "{}", held.html);
    for replica in &replicas {
        page.post("/replay", &[("replica", replica), ("hold", "false")]).await;
    }
    let free = page.get("/").await;
    assert_eq!(free.html.matches("<td class=\"replay\">as it comes</td>").count(), 2, "{}", free.html);
    let unknown = page.post("/replay", &[("replica", "nobody"), ("hold", "true")]).await;
    assert!(unknown.html.contains("failed: no replica has the name"), "{}", unknown.html);
}

#[tokio::test]
async fn on_a_cluster_of_others_replay_is_held_and_never_left_so() {
    let cluster = started(LocalCluster::builder().replicas(2)).await;
    let urls: Vec<String> = cluster.replicas().map(mainstem::testing::Node::url).collect();
    let nodes = Nodes::given(cluster.primary().url(), urls).await.unwrap();
    let library = Library::open(nodes).await.unwrap();
    cluster.wait_until_caught_up().await.unwrap();
    let page = Browser::new(serve(&library).await);
    let replicas: Vec<_> = library.nodes.replays().await.into_iter().map(|(name, _)| name).collect();
    let free = page.get("/").await;
    assert!(!free.html.contains("type=\"range\""), "a slider that does nothing: {}", free.html);
    let delayed = page.post("/replay", &[("replica", &replicas[0]), ("delay", "2")]).await;
    assert!(
        delayed.html.contains("failed: replay is delayed on a cluster of this page's own only"),
        "{}",
        delayed.html
    );
    for replica in &replicas {
        page.post("/replay", &[("replica", replica), ("hold", "true")]).await;
    }
    let lent = page.post("/borrow", &ADA_BORROWS_EMMA).await;
    assert_eq!((room(&lent, 1), lent.holder("desk", 1)), (pair("replica", "on the shelf"), "Ada".to_owned()));
    library.close().await.unwrap();
    // Replay that stayed held would end this by its limit.
    cluster.wait_until_caught_up().await.unwrap();
    let again = Nodes::given(cluster.primary().url(), [cluster.replica(0).url()]).await.unwrap();
    let page = Browser::new(serve(&Library::open(again).await.unwrap()).await);
    assert_eq!(page.get("/?read=strong").await.holder("desk", 1), "Ada", "it is opened again as it was left");
}
