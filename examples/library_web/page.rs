//! The HTML. Everything in parentheses is escaped by `maud`, in attributes too.

use std::time::Duration;

use mainstem::{NodeStatus, ReadModelProgress, Role};
use maud::{DOCTYPE, Markup, html};

use super::{
    app::View,
    freshness::{Freshness, Look},
    journal::{End, Entry},
    nodes::{MAX_DELAY, Replay},
    shelf::Shown,
};

/// What to show.
pub(crate) struct Page {
    pub(crate) view: View,
    /// The current state, read from the primary.
    pub(crate) desk: mainstem::Result<Look>,
    /// The state as seen at the chosen level.
    pub(crate) room: mainstem::Result<Look>,
    pub(crate) journal: Vec<Entry>,
    pub(crate) conflicts: u64,
    pub(crate) nodes: Vec<NodeStatus>,
    pub(crate) replays: Vec<(String, Replay)>,
    pub(crate) can_delay: bool,
    pub(crate) read_model: Vec<ReadModelProgress>,
}

pub(crate) fn render(page: &Page) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { "Lending library" }
                link rel="icon" href="data:,";
                link rel="stylesheet" href="/page.css";
                script src="/page.js" defer {}
            }
            body {
                header {
                    h1 { "Lending library" }
                    p {
                        "Commands are decided on the " (role(Role::Primary)) ", queries are answered by a " (role(Role::Replica))
                        ". Hold a replica below, borrow a book, and see who knows of it."
                    }
                }
                (told(page))
                main {
                    (desk(page))
                    (room(page))
                    (nodes(page))
                    (journal(page))
                }
            }
        }
    }
}

/// The outcome of the last action.
fn told(page: &Page) -> Markup {
    let entries = page.journal.iter().rev().filter(|entry| page.view.done > 0 && entry.action == page.view.done);
    html! {
        div #told role="status" {
            @for entry in entries {
                p .told .(class(&entry.end)) { strong { (entry.what) } ": " (end(&entry.end)) (cost(entry)) }
            }
        }
    }
}

fn desk(page: &Page) -> Markup {
    let empty = Shown::default();
    let shown = page.desk.as_ref().map_or(&empty, |look| &look.shown);
    let View { reader, copy, .. } = page.view;
    let rival = shown.readers.iter().map(|it| it.reader).find(|it| *it != reader).unwrap_or(reader);
    let query = page.view.query();
    html! {
        section .card aria-labelledby="desk-title" {
            h2 #desk-title { "At the desk" }
            p .lead { "Commands: strong, on the primary." }
            form method="post" action={ "/borrow?" (query) } {
                (reader_choice("reader", "Reader", shown, reader))
                (copy_choice("copy", shown, copy))
                label .check {
                    input type="checkbox" name="replica_first" value="true";
                    " decide on what a replica shows"
                }
                div .buttons {
                    button #borrow { "Borrow" }
                    button #return formaction={ "/return?" (query) } { "Return" }
                }
            }
            form method="post" action={ "/race?" (query) } {
                (reader_choice("reader", "Reader", shown, reader))
                (reader_choice("rival", "and", shown, rival))
                (copy_choice("copy", shown, copy))
                div .buttons { button #race { "Both borrow it at once" } }
            }
            details {
                summary { "New books and readers" }
                (naming("/copies", &query, "title", "Title", "Add a book"))
                (naming("/readers", &query, "name", "Name", "Register a reader"))
            }
            div #desk data-live {
                @match &page.desk {
                    Ok(look) => { (served("desk", look, None)) (shelf(&look.shown, &look.shown)) }
                    Err(error) => p .told .failed { (error.report()) }
                }
            }
        }
    }
}

fn room(page: &Page) -> Markup {
    let View { bound, reader, copy, read, .. } = page.view;
    html! {
        section .card aria-labelledby="room-title" {
            h2 #room-title { "In the reading room" }
            p .lead { "The read model, from a replica where the level lets it." }
            form #levels method="get" action="/" {
                input type="hidden" name="reader" value=(reader);
                input type="hidden" name="copy" value=(copy);
                fieldset {
                    legend { "How fresh does it have to be?" }
                    @for level in Freshness::ALL {
                        label .check {
                            input type="radio" name="read" value=(level.name()) checked[level == read];
                            " " strong { (level.title()) } " " (level.meaning())
                        }
                    }
                    label { "Bound, in seconds " input type="number" name="bound" min="1" max="60" value=(bound); }
                }
                div .buttons { button #read { "Read" } }
            }
            div #room data-live {
                @match (&page.room, &page.desk) {
                    (Ok(look), Ok(desk)) => { (served("room", look, Some(&desk.shown))) (shelf(&look.shown, &desk.shown)) }
                    (Ok(look), Err(_)) => { (served("room", look, None)) (shelf(&look.shown, &look.shown)) }
                    (Err(error), _) => p .told .failed { (error.report()) }
                }
            }
        }
    }
}

/// Who served a look, up to which position, and how far behind the desk that was.
fn served(pane: &str, look: &Look, desk: Option<&Shown>) -> Markup {
    let behind = desk.map(|desk| desk.position.saturating_sub(look.shown.position));
    html! {
        p .served {
            "Served by the " span id={ (pane) "-role" } { (role(look.role)) } " " code { (look.node) }
            " at position " span id={ (pane) "-position" } { (look.shown.position) } " in " (time(look.took))
            @match behind {
                None => {}
                Some(0) => span .fresh id={ (pane) "-behind" } { "as the desk knows it" }
                Some(1) => span .behind id={ (pane) "-behind" } { "1 event behind the desk" }
                Some(events) => span .behind id={ (pane) "-behind" } { (events) " events behind the desk" }
            }
        }
    }
}

/// The copies in a look. Marks those for which the desk knows better.
fn shelf(shown: &Shown, desk: &Shown) -> Markup {
    let holder =
        |shown: &Shown, copy| shown.holder(copy).map_or_else(|| "on the shelf".to_owned(), |it| shown.name(it));
    let missing = desk.copies.iter().filter(|it| shown.copies.iter().all(|other| other.copy != it.copy));
    html! {
        table .shelf {
            thead { tr { th scope="col" { "Book" } th scope="col" { "Who has it" } } }
            tbody {
                @for it in &shown.copies {
                    @let (here, there) = (holder(shown, it.copy), holder(desk, it.copy));
                    tr .behind[here != there] data-copy=(it.copy) {
                        td { (it.title) }
                        td {
                            span .holder { (here) }
                            @if here != there { " " small { "by now: " (there) } }
                        }
                    }
                }
                @for it in missing {
                    tr .behind data-copy=(it.copy) { td { "?" } td { small { "not here yet: " (it.title) } } }
                }
            }
        }
    }
}

fn nodes(page: &Page) -> Markup {
    let query = page.view.query();
    let replay_of = |name: &str| page.replays.iter().find(|(other, _)| other == name).map(|(_, replay)| *replay);
    html! {
        section .card .wide aria-labelledby="nodes-title" {
            h2 #nodes-title { "The servers" }
            div #nodes .scrolled data-live {
                table {
                    thead {
                        tr {
                            th scope="col" { "Node" } th scope="col" { "Role" } th scope="col" { "State" }
                            th scope="col" { "Replay" } th scope="col" { "Lag" } th scope="col" { "Bytes behind" }
                            th scope="col" { "Latency" }
                        }
                    }
                    tbody {
                        @for node in &page.nodes {
                            tr data-node=(node.name) {
                                th scope="row" { code { (node.name) } }
                                td { (role(node.role)) }
                                td { (node.condition) }
                                td .replay { (replay_of(&node.name).map_or_else(String::new, told_replay)) }
                                td { (node.lag.map_or_else(|| "–".to_owned(), time)) }
                                td { (node.lag_bytes.map_or_else(|| "–".to_owned(), |bytes| bytes.to_string())) }
                                td { (node.latency.map_or_else(|| "–".to_owned(), time)) }
                            }
                        }
                    }
                }
                @for progress in &page.read_model {
                    p .served {
                        "The read model “" (progress.name) "” is " (format!("{:?}", progress.state).to_lowercase())
                        " at position " (progress.handled.map_or(0, |mark| mark.position()))
                        @if let Some(error) = &progress.error { "; its last error: " (error.report()) }
                    }
                }
            }
            @for (index, (name, replay)) in page.replays.iter().enumerate() {
                (replay_forms(index, name, *replay, page.can_delay, &query))
            }
        }
    }
}

/// A replica's slider, and the button beside it.
fn replay_forms(index: usize, name: &str, replay: Replay, can_delay: bool, query: &str) -> Markup {
    let delay = match replay {
        Replay::Delayed(delay) => delay.as_secs_f64(),
        Replay::Held => 0.0,
    };
    let is_held = replay == Replay::Held;
    html! {
        div .replica data-replica=(name) {
            h3 { code { (name) } }
            @if can_delay {
                form method="post" action={ "/replay?" (query) } {
                    input type="hidden" name="replica" value=(name);
                    label for={ "delay-" (index) } { "Replay is delayed by" }
                    input id={ "delay-" (index) } type="range" name="delay" min="0" max=(MAX_DELAY.as_secs()) step="0.5"
                        value=(delay) list="delays";
                    output for={ "delay-" (index) } { (delay) " s" }
                    button id={ "set-" (index) } { "Set the delay" }
                }
            }
            form method="post" action={ "/replay?" (query) } {
                input type="hidden" name="replica" value=(name);
                input type="hidden" name="hold" value=(!is_held);
                button id={ "hold-" (index) } aria-pressed=(is_held) { @if is_held { "Let replay go on" } @else { "Hold replay" } }
            }
        }
        @if index == 0 {
            datalist #delays { @for second in 0..=MAX_DELAY.as_secs() { option value=(second) {} } }
        }
    }
}

fn journal(page: &Page) -> Markup {
    html! {
        section .card .wide aria-labelledby="journal-title" {
            h2 #journal-title { "What was done" }
            div #journal .scrolled data-live {
                p .served { "Conflicts so far: " strong #conflicts { (page.conflicts) } }
                table {
                    thead {
                        tr {
                            th scope="col" { "What" } th scope="col" { "Outcome" } th scope="col" { "Served by" }
                            th scope="col" { "Position" } th scope="col" { "Decisions" } th scope="col" { "Conflicts" }
                            th scope="col" { "Took" } th scope="col" { "Read model" }
                        }
                    }
                    tbody {
                        @for entry in &page.journal {
                            tr .(class(&entry.end)) {
                                td { (entry.what) }
                                td { (end(&entry.end)) }
                                td { (entry.served_by) }
                                td { (entry.position.map_or_else(|| "–".to_owned(), |it| it.to_string())) }
                                td { (entry.decisions) }
                                td { (entry.conflicts) }
                                td { (time(entry.took)) }
                                td { (entry.shown.map_or_else(|| "–".to_owned(), |it| format!("after {}", time(it)))) }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn reader_choice(name: &str, label: &str, shown: &Shown, chosen: u32) -> Markup {
    html! {
        label {
            (label) " "
            select name=(name) {
                @for it in &shown.readers { option value=(it.reader) selected[it.reader == chosen] { (it.name) } }
            }
        }
    }
}

fn copy_choice(name: &str, shown: &Shown, chosen: u32) -> Markup {
    html! {
        label {
            "Book "
            select name=(name) {
                @for it in &shown.copies { option value=(it.copy) selected[it.copy == chosen] { (it.title) } }
            }
        }
    }
}

fn naming(action: &str, query: &str, id: &str, label: &str, button: &str) -> Markup {
    html! {
        form method="post" action={ (action) "?" (query) } {
            label for=(id) { (label) }
            input id=(id) name="name" required maxlength="200" autocomplete="off";
            button { (button) }
        }
    }
}

fn role(role: Role) -> Markup {
    html! { span .role .(role.to_string()) { (role) } }
}

fn class(end: &End) -> &'static str {
    match end {
        End::Done => "done",
        End::Nothing => "nothing",
        End::Refused(_) => "refused",
        End::Failed(_) => "failed",
    }
}

fn end(end: &End) -> String {
    match end {
        End::Done => "done".to_owned(),
        End::Nothing => "nothing to do".to_owned(),
        End::Refused(reason) => format!("refused, {reason}"),
        End::Failed(error) => format!("failed: {error}"),
    }
}

fn cost(entry: &Entry) -> Markup {
    html! {
        @if let Some(position) = entry.position { ", at position " (position) }
        ", by the " (entry.served_by) " in " (time(entry.took))
        @match entry.conflicts {
            0 => {}
            1 => { ", after a conflict" }
            conflicts => { ", after " (conflicts) " conflicts" }
        }
    }
}

fn told_replay(replay: Replay) -> String {
    match replay {
        Replay::Delayed(Duration::ZERO) => "as it comes".to_owned(),
        Replay::Delayed(delay) => format!("delayed by {}", time(delay)),
        Replay::Held => "held".to_owned(),
    }
}

/// Milliseconds or seconds, whichever reads better.
fn time(time: Duration) -> String {
    match time.as_secs_f64() {
        seconds if seconds < 1.0 => format!("{:.1} ms", 1000.0 * seconds),
        seconds => format!("{seconds:.1} s"),
    }
}
