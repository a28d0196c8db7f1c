//! A decision on several things at once, written by hand: one read, several typed states, one condition.
//!
//!     cargo run --example decision_model --features migrations,testing
//!
//! `enrollment` leaves reading, appending and retrying to an executor.

use mainstem::{
    AppendCondition, DecisionModel, Event, EventStore, Filter, NewEvent, PostgresEventStore, Projection, Result,
    Router, testing::LocalCluster,
};

#[tokio::main]
async fn main() -> Result<()> {
    let cluster = LocalCluster::start().await?;
    let router = Router::builder().primary(cluster.primary().url()).connect().await?;
    let store = PostgresEventStore::new(&router);
    store.migrate().await?;
    run(store).await
}

/// Whether a product is sold.
struct Product {
    name: &'static str,
    price: Option<u32>,
}

/// How often a coupon was used.
struct Coupon {
    code: &'static str,
    used: u32,
}

impl Projection for Product {
    fn filter(&self) -> Result<Filter> {
        let types = ["ProductListed", "ProductWithdrawn"];
        Filter::matching().any_type_of(types).and_all_tags_of([format!("product:{}", self.name)]).finish()
    }

    fn apply(&mut self, event: &Event) -> Result<()> {
        self.price = if event.event_type() == "ProductListed" { Some(event.decode()?) } else { None };
        Ok(())
    }
}

impl Projection for Coupon {
    fn filter(&self) -> Result<Filter> {
        Filter::matching().any_type_of(["Ordered"]).and_all_tags_of([format!("coupon:{}", self.code)]).finish()
    }

    fn apply(&mut self, _event: &Event) -> Result<()> {
        self.used += 1;
        Ok(())
    }
}

/// An order is valid as long as its product is sold at that price and the coupon is unused.
pub(crate) async fn run(store: impl EventStore) -> Result<()> {
    let listed = NewEvent::new("ProductListed", &25)?.with_tag("product:lamp");
    store.append([listed], AppendCondition::none()).await?;
    let order = || (Product { name: "lamp", price: None }, Coupon { code: "welcome", used: 0 });
    let ordered = |price| {
        Ok::<_, mainstem::Error>(NewEvent::new("Ordered", &price)?.with_tags(["product:lamp", "coupon:welcome"]))
    };

    // One query for both; each part received only its own events.
    let read = order().read_from(&store).await?;
    let (product, coupon) = read.state();
    println!("{} costs {:?}, {} was used {} times", product.name, product.price, coupon.code, coupon.used);

    // Another product changes, which does not affect this decision.
    let other = NewEvent::new("ProductListed", &9)?.with_tag("product:bulb");
    store.append([other], AppendCondition::none()).await?;
    let appended = store.append([ordered(product.price)?], read.unchanged()).await?;
    println!("ordered, at position {}", appended.first_position());

    // The same decision again, on the earlier read: the coupon has been used since.
    let error = store.append([ordered(product.price)?], read.unchanged()).await.expect_err("the coupon is used");
    println!("refused: {error}");
    let read = order().read_from(&store).await?;
    assert_eq!(read.state().1.used, 1);

    // The price as well: a change to either part breaks the condition.
    let withdrawn = NewEvent::new("ProductWithdrawn", &())?.with_tag("product:lamp");
    store.append([withdrawn], AppendCondition::none()).await?;
    let error = store.append([ordered(None)?], read.unchanged()).await.expect_err("it is not sold any more");
    println!("refused: {error}");
    Ok(())
}
