//! Stock keeping: opening counts, deliveries and recounts of what a store sells often enough, as CSV.
//!
//! The year's sales are replayed per store and product: below a third of the usual stock the store orders what is missing.

use jiff::{SignedDuration, Timestamp};
use rand::Rng;
use rand_chacha::ChaCha8Rng;

use crate::{
    Error, Site, World,
    chance::dice,
    text_file::{TextFile, Written, directory},
    when::{self, YEAR_START},
};

/// A pair of store and product is tracked from this many sales a year.
const TRACKED_SALES: usize = 4;

struct Sale {
    store: u32,
    product: u32,
    at: Timestamp,
    quantity: i32,
}

struct Movement {
    at: Timestamp,
    store: u32,
    product: u32,
    quantity: i32,
}

#[derive(Default)]
struct Books {
    opening_counts: Vec<Movement>,
    deliveries: Vec<Movement>,
    recounts: Vec<Movement>,
}

pub(crate) fn write(site: &Site) -> Result<Written, Error> {
    directory(&site.root, "stock")?;
    let mut books = Books::default();
    let sales = sales(&site.world);
    for pair in sales.chunk_by(|a, b| (a.store, a.product) == (b.store, b.product)) {
        if pair.len() >= TRACKED_SALES && site.world.dataset.product(pair[0].product).is_some() {
            replay(site.world.seed, pair, &mut books);
        }
    }
    drop(sales);
    let mut written = Written::default();
    for (name, time, reference, movements) in [
        ("opening_counts", "counted_at", 'O', books.opening_counts),
        ("deliveries", "delivered_at", 'D', books.deliveries),
        ("recounts", "counted_at", 'R', books.recounts),
    ] {
        written.tally.records += movements.len() as u64;
        file(site.world.seed, name, time, reference, movements).save(&site.root, &mut written)?;
    }
    Ok(written)
}

/// All that took goods from a shelf, by store, product and time.
fn sales(world: &World) -> Vec<Sale> {
    let mut sales = Vec::new();
    for basket in &world.dataset.baskets {
        let sold = world.dataset.lines(basket).iter().filter(|line| line.quantity > 0);
        sales.extend(sold.map(|line| Sale {
            store: basket.store,
            product: line.product,
            at: basket.at,
            quantity: line.quantity,
        }));
    }
    sales.sort_by_key(|sale| (sale.store, sale.product, sale.at));
    sales
}

/// A store's shelf of one product through the year.
struct Shelf<'a> {
    books: &'a mut Books,
    store: u32,
    product: u32,
    /// What the store likes to have.
    usual: i32,
    /// Still to be sold, when deliveries end with it: the product sells out.
    remaining: Option<i32>,
    on_hand: i32,
    under_way: Option<(Timestamp, i32)>,
    recount: Option<Timestamp>,
    /// Of the last entry in the books.
    last: Timestamp,
}

fn replay(seed: u64, sales: &[Sale], books: &mut Books) {
    let Sale { store, product, .. } = sales[0];
    let mut dice = dice(seed, "shelf", u64::from(store) << 32 | u64::from(product));
    let sold: i32 = sales.iter().map(|sale| sale.quantity).sum();
    let largest = sales.iter().map(|sale| sale.quantity).max().unwrap_or(0);
    let sells_out = dice.random_bool(0.015);
    let usual = (sold / 8).max(2 * largest).max(4);
    let mut shelf = Shelf {
        books,
        store,
        product,
        usual,
        remaining: sells_out.then_some(sold),
        on_hand: if sells_out { usual.min(sold) } else { usual },
        under_way: None,
        recount: (!sells_out && dice.random_bool(0.3)).then(|| recount_night(seed, store, &mut dice)),
        last: YEAR_START,
    };
    let opening = Movement { at: YEAR_START, store, product, quantity: shelf.on_hand };
    shelf.books.opening_counts.push(opening);
    for sale in sales {
        shelf.sell(sale.at, sale.quantity, &mut dice);
    }
    shelf.close_year(&mut dice);
}

/// A store counts in two nights of the year.
fn recount_night(seed: u64, store: u32, dice: &mut ChaCha8Rng) -> Timestamp {
    let which = u64::from(dice.random_bool(0.5));
    let mut nights = crate::chance::dice(seed, "recount night", u64::from(store) * 2 + which);
    when::hour_after(YEAR_START, nights.random_range(60..350), 2)
}

impl Shelf<'_> {
    fn sell(&mut self, at: Timestamp, quantity: i32, dice: &mut ChaCha8Rng) {
        self.catch_up(at, dice);
        if self.on_hand < quantity {
            // It was sold, so it was there: somebody fetched it from the warehouse just before.
            let fetched_at = (at - SignedDuration::from_mins(30)).max(self.last);
            let missing = quantity - self.on_hand;
            self.deliver(fetched_at, self.capped(missing + self.usual / 2).max(missing));
        }
        self.on_hand -= quantity;
        if let Some(remaining) = &mut self.remaining {
            *remaining -= quantity;
        }
        if self.on_hand <= self.usual / 3 && self.under_way.is_none() {
            let wanted = self.capped(self.usual - self.on_hand);
            let arrival = when::hour_after(at, dice.random_range(1..=3), 6);
            self.under_way = (wanted > 0).then_some((arrival, wanted));
        }
    }

    /// No more than will be sold, where the product sells out.
    fn capped(&self, quantity: i32) -> i32 {
        self.remaining.map_or(quantity, |remaining| quantity.min(remaining - self.on_hand))
    }

    /// Enters what happened until `now`, in the order in which it happened.
    fn catch_up(&mut self, now: Timestamp, dice: &mut ChaCha8Rng) {
        loop {
            let arrival = self.under_way.filter(|(at, _)| *at <= now);
            let recount = self.recount.filter(|at| *at <= now);
            match (arrival, recount) {
                (Some((at, _)), Some(night)) if night < at => self.count(night, dice),
                (Some((at, quantity)), _) => {
                    self.under_way = None;
                    self.deliver(at, quantity.min(self.capped(quantity)));
                }
                (None, Some(night)) => self.count(night, dice),
                (None, None) => return,
            }
        }
    }

    fn deliver(&mut self, at: Timestamp, quantity: i32) {
        if quantity > 0 {
            let Self { store, product, .. } = *self;
            self.books.deliveries.push(Movement { at, store, product, quantity });
            self.on_hand += quantity;
            self.last = at;
        }
    }

    /// Mostly the books are right; else a little is gone.
    fn count(&mut self, at: Timestamp, dice: &mut ChaCha8Rng) {
        self.recount = None;
        let difference = match dice.random_range(0..10) {
            0 => 1,
            1..4 => -dice.random_range(1..=(self.usual / 10).max(1)),
            _ => 0,
        };
        self.on_hand = (self.on_hand + difference).max(0);
        let Self { store, product, on_hand: quantity, .. } = *self;
        self.books.recounts.push(Movement { at, store, product, quantity });
        self.last = at;
    }

    fn close_year(&mut self, dice: &mut ChaCha8Rng) {
        self.catch_up(when::hour_after(YEAR_START, 365, 0), dice);
    }
}

fn file(seed: u64, name: &str, time: &str, reference: char, mut movements: Vec<Movement>) -> TextFile {
    movements.sort_by_key(|movement| (movement.at, movement.store, movement.product));
    let mut file = TextFile::with_header(
        format!("stock/{name}.csv"),
        &format!("reference,store_id,product_id,quantity,{time}"),
    );
    let mut dice = dice(seed, "stock junk", reference.into());
    for (number, Movement { at, store, product, quantity }) in movements.into_iter().enumerate() {
        file.line(format_args!("{reference}-{number:07},{store},{product},{quantity},{at}"));
        if dice.random_ratio(1, 2_000) {
            if dice.random_bool(0.5) {
                file.junk("unparsable_number", &format!("{reference}-X{number:06},{store},{product},?,{at}"));
            } else {
                file.junk("missing_columns", &format!("{reference}-X{number:06},{store}"));
            }
        }
    }
    file
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sales of one pair, at an uneven pace.
    fn sales(product: u32) -> Vec<Sale> {
        let mut dice = dice(7, "test", product.into());
        let mut at = YEAR_START;
        let sales = (0..dice.random_range(4..120)).map(|_| {
            at += SignedDuration::from_secs(dice.random_range(60..5 * 86_400));
            Sale { store: 1, product, at, quantity: dice.random_range(1..9) }
        });
        sales.collect()
    }

    /// What is left after every entry; a count comes before what happens in the same second.
    fn balances(books: &Books, sales: &[Sale]) -> Vec<i32> {
        let counts =
            books.opening_counts.iter().chain(&books.recounts).map(|count| (count.at, 0, count.quantity));
        let deliveries = books.deliveries.iter().map(|delivery| (delivery.at, 1, delivery.quantity));
        let sold = sales.iter().map(|sale| (sale.at, 2, -sale.quantity));
        let mut entries: Vec<_> = counts.chain(deliveries).chain(sold).collect();
        entries.sort_by_key(|(at, rank, _)| (*at, *rank));
        let mut on_hand = 0;
        let balance = entries.into_iter().map(|(_, rank, quantity)| {
            on_hand = if rank == 0 { quantity } else { on_hand + quantity };
            on_hand
        });
        balance.collect()
    }

    #[test]
    fn nobody_sells_what_is_not_there_and_some_sell_out() {
        let mut sold_out = 0;
        for product in 0..1_000 {
            let sales = sales(product);
            let mut books = Books::default();
            replay(7, &sales, &mut books);
            let balances = balances(&books, &sales);
            assert!(balances.iter().all(|on_hand| *on_hand >= 0), "product {product}: {balances:?}");
            sold_out += i32::from(balances.last() == Some(&0));
        }
        assert!((5..60).contains(&sold_out), "{sold_out}");
    }
}
