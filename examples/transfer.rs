//! Many concurrent transfers between accounts: no account is overdrawn, and no money is lost or created.
//!
//!     cargo run --example transfer --features migrations,testing

use futures_util::future::join_all;
use mainstem::{
    AppendCondition, Command, CommandError, CommandExecutor, Decision, DecisionModel, Event, EventStore, Filter,
    NewEvent, PostgresEventStore, Projection, Result, Router, testing::LocalCluster,
};
use serde::{Deserialize, Serialize};

const OPENED: &str = "AccountOpened";
const TRANSFERRED: &str = "MoneyTransferred";

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let cluster = LocalCluster::start().await?;
    let router = Router::builder().primary(cluster.primary().url()).connect().await?;
    let store = PostgresEventStore::new(&router);
    store.migrate().await?;
    let balances = run(store).await?;
    println!("balances {balances:?}, {} together", balances.iter().sum::<i64>());
    Ok(())
}

/// What a decision needs to know about an account.
struct Account {
    number: usize,
    is_open: bool,
    balance: i64,
}

#[derive(Serialize, Deserialize)]
struct Transfer {
    from: usize,
    to: usize,
    amount: i64,
}

#[derive(Debug, PartialEq, thiserror::Error)]
enum Refusal {
    #[error("there is no such account")]
    NoAccount,
    #[error("only {0} are left")]
    TooLittle(i64),
}

fn account(number: usize) -> Account {
    Account { number, is_open: false, balance: 0 }
}

fn tag(number: usize) -> String {
    format!("account:{number}")
}

impl Projection for Account {
    fn filter(&self) -> Result<Filter> {
        Filter::matching().any_type_of([OPENED, TRANSFERRED]).and_all_tags_of([tag(self.number)]).finish()
    }

    fn apply(&mut self, event: &Event) -> Result<()> {
        if event.event_type() == OPENED {
            (self.is_open, self.balance) = (true, event.decode()?);
        } else {
            let Transfer { from, to, amount } = event.decode()?;
            self.balance -= if from == self.number { amount } else { 0 };
            self.balance += if to == self.number { amount } else { 0 };
        }
        Ok(())
    }
}

impl Command for Transfer {
    type Model = (Account, Account);
    type Refusal = Refusal;

    fn model(&self) -> Self::Model {
        (account(self.from), account(self.to))
    }

    fn decide(&self, (from, to): &Self::Model) -> Result<Decision<Refusal>> {
        if !from.is_open || !to.is_open {
            Ok(Decision::refuse(Refusal::NoAccount))
        } else if from.balance < self.amount {
            Ok(Decision::refuse(Refusal::TooLittle(from.balance)))
        } else {
            let tags = [tag(self.from), tag(self.to)];
            Ok(Decision::append([NewEvent::new(TRANSFERRED, self)?.with_tags(tags)]))
        }
    }
}

/// Three accounts and sixty concurrent transfers; returns the balances at the end.
pub(crate) async fn run(store: impl EventStore + Clone + 'static) -> Result<Vec<i64>, Box<dyn std::error::Error>> {
    for number in 0..3 {
        let opened = NewEvent::new(OPENED, &100)?.with_tag(tag(number));
        store.append([opened], AppendCondition::none()).await?;
    }
    let executor = CommandExecutor::new(store).max_attempts(100);
    let transfers: Vec<_> =
        (0..60).map(|n| Transfer { from: n % 3, to: (n + 1 + n % 2) % 3, amount: 10 + n as i64 % 40 }).collect();
    let told = join_all(transfers.iter().map(|transfer| async { executor.execute(transfer).await })).await;
    let refused = told.iter().filter(|told| matches!(told, Err(CommandError::Refused { .. }))).count();
    let conflicts: u32 = told.iter().flatten().map(|executed| executed.attempts.conflicts).sum();
    println!("{} transfers, {refused} of them refused, {conflicts} conflicts", told.len());
    for outcome in told {
        if let Err(error @ CommandError::GaveUp { .. }) = outcome {
            return Err(error.into());
        }
    }
    let accounts = vec![account(0), account(1), account(2)].read_from(executor.store()).await?.into_state();
    Ok(accounts.into_iter().map(|account| account.balance).collect())
}
