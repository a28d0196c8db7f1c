//! `compare peers`: Mainstem beside other event stores, taking turns on the same PostgreSQL and data. Each runs in its own
//! process with its own driver. The programs are in `benches/peers`.
//!
//! | file | what it holds |
//! |---|---|
//! | `cast` | the stores that take part |
//! | `build` | builds their programs |
//! | `driver` | drives a store in a process of its own |
//! | `ours` | Mainstem, driven by it |
//! | `process`, `lanes` | the bench's end of such a process; one store of a run |
//! | `rows` | what is measured |
//! | `oracle` | whether a store kept its promises |
//! | `ratios` | the last figures, and what is missing from them |
//! | `table` | what is printed |

mod build;
mod cast;
mod driver;
mod lanes;
mod oracle;
mod ours;
mod process;
mod ratios;
mod rows;
mod table;

pub(crate) use self::driver::chain::chain;
pub(crate) use self::{cast::NAMES as FIGURES, driver::tag};
use self::{
    cast::{PEERS, Peer},
    lanes::Lane,
    table::Results,
};
use crate::{
    Outcome,
    args::Args,
    fixture::{self, Database},
    library::Library,
    report::{Report, print_title},
    rounds::Control,
    server,
};

const DATABASE: &str = "peers";

/// How many boundaries are read.
const BOUNDARIES: u64 = 500;

/// Each peer has up to 64 connections, and keeps them while the others take their turns.
const SETTINGS: [(&str, &str); 1] = [("max_connections", "700")];

/// Runs Mainstem's process.
pub(crate) async fn work() -> Outcome {
    driver::serve::<ours::Ours>().await
}

pub(crate) async fn run(args: &Args) -> Outcome {
    print_title("peers", args);
    let mut report = Report::new("peers");
    oracle::prove()?;
    let wanted: Vec<&'static Peer> = PEERS.iter().filter(|peer| args.wants(&[peer.name])).collect();
    let built = tokio::task::spawn_blocking({
        let wanted = wanted.clone();
        move || build::build(&wanted)
    })
    .await??;
    let database = Database { name: DATABASE, events: args.events, peers: false, tagged: true };
    let saved = fixture::saved(args, "peers", &[database]).await?;
    let cluster = server::start(args, &saved, 0, &SETTINGS).await?;
    let url = cluster.primary().url_for(DATABASE);
    let control = Control::connect(&url).await?;
    server::print_facts(args, &cluster, &control, &mut report).await?;

    let mut lanes = vec![Lane::ours(&url).await?];
    let mut missing: Vec<(&Peer, String)> = Vec::new();
    for peer in &wanted {
        eprintln!("starting and filling {} …", peer.name);
        match Lane::start(args, &url, &control, &built, peer).await {
            Ok(lane) => lanes.push(lane),
            Err(error) => {
                let reason = chain(&*error);
                eprintln!("\nLEFT OUT: {}: {reason}\n", peer.with_version());
                report.left_out(peer.name, &reason);
                missing.push((peer, reason));
            }
        }
    }
    control.batch_execute("VACUUM (ANALYZE)").await?;

    let library = Library::new(args.seed, args.events);
    let first = library.boundaries() / 2;
    let books: Vec<String> =
        (first..first + BOUNDARIES).map(|number| library.boundary(number).book.to_string()).collect();
    agree(&mut lanes, &books).await?;
    let mut results = Results::default();
    for planned in rows::plan(args, &books) {
        rows::take_turns(&planned, &mut lanes, &control).await?;
        results.add(&planned, &lanes, &mut report);
        if let Some(lane) = lanes.first()
            && let Some(failed) = &lane.out
        {
            // Keeps what was measured until then.
            report.save(args)?;
            return Err(format!("without Mainstem there is nothing to compare: {}", failed.shown()).into());
        }
    }
    if args.quick {
        println!("\nscale={}", args.events);
    }
    results.print(&lanes, &missing, &mut report);
    report.save(args)?;
    match lanes.first() {
        Some(ours) if !ours.verdict.is_clean() => Err(format!("Mainstem is not exact: {:?}", ours.verdict).into()),
        _ => Ok(()),
    }
}

/// Checks that all find the same events; a store that does not is left out.
async fn agree(lanes: &mut [Lane], books: &[String]) -> Outcome {
    let mut expected = None;
    for lane in lanes.iter_mut() {
        match (lane.look(books).await, expected) {
            (Ok(found), None) => expected = Some(found),
            (Ok(found), Some(expected)) if found == expected => (),
            (Ok(found), Some(expected)) => lane.fail(format!("it finds {found:?}, and Mainstem {expected:?}")),
            (Err(error), None) => return Err(error),
            (Err(error), Some(_)) => lane.fail(chain(&*error)),
        }
    }
    if let Some((all, some)) = expected {
        let events = some.events / books.len() as u64;
        println!(
            "results     all find the same {} events, and the same {events} for each of {BOUNDARIES} boundaries",
            all.events
        );
    }
    Ok(())
}
