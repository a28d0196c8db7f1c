//! Tickets are sold to users who all want them at once: each seat is sold only once. Also measures how fast that is.
//!
//!     cargo run --release --example ticket_booking --features migrations,testing -- --users 50 --seats 200 --tickets 2
//!
//! Each user looks for free seats on a replica, and books some of them. Each seat is its own consistency boundary, so only
//! users who want the same seat conflict.

use std::{collections::BTreeSet, time::Duration};

use mainstem::{
    Command, CommandError, CommandExecutor, Consistency, Decision, DecisionModel, Event, EventStore, Filter, NewEvent,
    PostgresEventStore, Projection, Result, Router, testing::LocalCluster,
};
use tokio::{task::JoinSet, time::Instant};

const BOOKED: &str = "SeatBooked";

type Outcome<T = ()> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

#[tokio::main]
async fn main() -> Outcome {
    let (mut users, mut seats, mut tickets) = (50, 200, 2);
    let mut words = std::env::args().skip(1);
    while let Some(option) = words.next() {
        let number = words.next().and_then(|word| word.parse().ok()).filter(|number| *number > 0);
        let number = number.ok_or_else(|| format!("{option} needs a number from 1 on"))?;
        match &*option {
            "--users" => users = number,
            "--seats" => seats = number,
            "--tickets" => tickets = number,
            _ => return Err("the options are --users, --seats and --tickets, each with a number".into()),
        }
    }
    let cluster = LocalCluster::builder().replicas(1).start().await?;
    let router = Router::builder().primary(cluster.primary().url()).replica(cluster.replica(0).url()).connect().await?;
    let store = PostgresEventStore::new(&router);
    store.migrate().await?;
    cluster.wait_until_caught_up().await?;
    let sale = run(store, users, seats, tickets).await?;
    println!("{sale}");
    Ok(())
}

/// One seat: is it free?
struct Seat {
    number: usize,
    is_taken: bool,
}

impl Projection for Seat {
    fn filter(&self) -> Result<Filter> {
        Filter::matching().any_type_of([BOOKED]).and_all_tags_of([format!("seat:{}", self.number)]).finish()
    }

    fn apply(&mut self, _booked: &Event) -> Result<()> {
        self.is_taken = true;
        Ok(())
    }
}

/// All seats that are taken: for browsing, not for decisions.
#[derive(Default)]
struct Hall {
    taken: Vec<usize>,
}

impl Projection for Hall {
    fn filter(&self) -> Result<Filter> {
        Filter::matching().any_type_of([BOOKED]).finish()
    }

    fn apply(&mut self, event: &Event) -> Result<()> {
        self.taken.push(event.decode()?);
        Ok(())
    }
}

struct Book {
    user: usize,
    seats: Vec<usize>,
}

impl Command for Book {
    type Model = Vec<Seat>;
    /// The seats that are taken already.
    type Refusal = Vec<usize>;

    fn model(&self) -> Vec<Seat> {
        self.seats.iter().map(|number| Seat { number: *number, is_taken: false }).collect()
    }

    fn decide(&self, seats: &Vec<Seat>) -> Result<Decision<Vec<usize>>> {
        let taken: Vec<usize> = seats.iter().filter(|seat| seat.is_taken).map(|seat| seat.number).collect();
        if !taken.is_empty() {
            return Ok(Decision::refuse(taken));
        }
        let booked = |seat: &usize| {
            let tags = [format!("seat:{seat}"), format!("user:{}", self.user)];
            Ok(NewEvent::new(BOOKED, seat)?.with_tags(tags))
        };
        Ok(Decision::append(self.seats.iter().map(booked).collect::<Result<Vec<_>>>()?))
    }
}

/// The outcome of a sale.
#[derive(Debug, Default)]
pub(crate) struct Sale {
    /// Seats that were sold.
    pub(crate) sold: usize,
    bookings: usize,
    refused: usize,
    conflicts: u32,
    took: Duration,
    /// The latency of each booking, in order.
    latencies: Vec<Duration>,
}

impl std::fmt::Display for Sale {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { sold, bookings, refused, conflicts, took, latencies } = self;
        let per_second = *bookings as f64 / took.as_secs_f64();
        let ms = |share: f64| {
            let index = (latencies.len().saturating_sub(1) as f64 * share).round() as usize;
            latencies.get(index).map_or(0.0, |latency| latency.as_secs_f64() * 1_000.0)
        };
        write!(
            f,
            "{sold} seats sold in {bookings} bookings, {refused} refused; bookings_per_s={per_second:.0} \
             conflicts={conflicts} p50_ms={:.1} p99_ms={:.1}",
            ms(0.5),
            ms(0.99)
        )
    }
}

/// Lets all users book at once, until each has enough tickets or too few seats are left.
pub(crate) async fn run(
    store: impl EventStore + Clone + 'static,
    users: usize,
    seats: usize,
    tickets: usize,
) -> Outcome<Sale> {
    let executor = CommandExecutor::new(store).max_attempts(50);
    let begin = Instant::now();
    let mut buying = JoinSet::new();
    for user in 0..users {
        buying.spawn(buy(executor.clone(), user, seats, tickets));
    }
    let mut sale = Sale::default();
    while let Some(bought) = buying.join_next().await {
        let Sale { bookings, refused, conflicts, latencies, .. } = bought??;
        sale.bookings += bookings;
        sale.refused += refused;
        sale.conflicts += conflicts;
        sale.latencies.extend(latencies);
    }
    sale.took = begin.elapsed();
    sale.latencies.sort();

    let taken = Hall::default().read_from(executor.store()).await?.into_state().taken;
    sale.sold = taken.len();
    match taken.iter().collect::<BTreeSet<_>>().len() {
        different if different == taken.len() => Ok(sale),
        different => Err(format!("{} bookings of {different} seats: some are sold twice", taken.len()).into()),
    }
}

async fn buy(executor: CommandExecutor, user: usize, seats: usize, tickets: usize) -> Outcome<Sale> {
    let mut bought = Sale::default();
    // Seats known to be taken that the replica may not show yet.
    let mut known = BTreeSet::new();
    while bought.bookings == 0 {
        let hall = executor.read(Hall::default()).consistency(Consistency::Eventual).await?.into_state();
        known.extend(hall.taken);
        let free: Vec<usize> = (0..seats).filter(|seat| !known.contains(seat)).collect();
        if free.len() < tickets {
            break;
        }
        // Each user starts somewhere else in the hall.
        let first = user * 7_919 % free.len();
        let wanted = free.iter().cycle().skip(first).take(tickets).copied().collect();
        let asked = Instant::now();
        match executor.execute(&Book { user, seats: wanted }).await {
            Ok(executed) => {
                bought.bookings += 1;
                bought.conflicts += executed.attempts.conflicts;
                bought.latencies.push(asked.elapsed());
            }
            Err(CommandError::Refused { reason, attempts, .. }) => {
                bought.refused += 1;
                bought.conflicts += attempts.conflicts;
                known.extend(reason);
            }
            Err(CommandError::GaveUp { error, .. }) => return Err(error.into()),
            Err(_) => return Err("this was neither refused nor given up".into()),
        }
    }
    Ok(bought)
}
