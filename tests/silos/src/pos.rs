//! The tills: a CSV file per store and day, some with receipts that came late, some corrected afterwards.

use rand::Rng;
use rand_chacha::ChaCha8Rng;

use crate::{
    Error, Site, Tally, World,
    chance::dice,
    dataset::Line,
    money::Cents,
    plan::Receipt,
    text_file::{TextFile, Written, directory},
    when,
};

const HEADER: &str = "store_id,receipt_no,till,sold_at,loyalty_card,line,product_id,quantity,amount,\
    retail_discount,coupon_discount,coupon_match_discount,payment_type,auth_code,psp_ref,order_ref";

pub(crate) fn write(site: &Site) -> Result<Written, Error> {
    let mut written = Written::default();
    let receipts = &site.world.plan.tills;
    for store in receipts.chunk_by(|a, b| a.store == b.store) {
        directory(&site.root, &format!("pos/{}", store[0].store))?;
    }
    let days = receipts.chunk_by(|a, b| a.store == b.store && when::day(a.at) == when::day(b.at));
    for (index, day) in days.enumerate() {
        write_day(site, day, index, &mut written)?;
        for receipt in day {
            written.tally += tally(&site.world, receipt);
        }
        site.advance(day.len() as u64);
    }
    Ok(written)
}

fn tally(world: &World, receipt: &Receipt) -> Tally {
    let basket = &world.dataset.baskets[receipt.basket];
    Tally {
        records: 1,
        lines: world.dataset.lines(basket).len() as u64,
        sales_minor: world.dataset.total(basket).0.into(),
        ..Tally::default()
    }
}

/// What became of a day's file.
enum Story {
    Plain,
    /// Every fourth receipt came with a later file.
    Late,
    /// The file was wrong, and was sent again.
    Corrected,
}

fn write_day(site: &Site, day: &[Receipt], index: usize, written: &mut Written) -> Result<(), Error> {
    let (store, date) = (day[0].store, when::day(day[0].at));
    let mut dice = dice(site.world.seed, "till day", index as u64);
    let story = match dice.random_range(0..100) {
        0..3 if day.len() > 3 => Story::Late,
        3..5 => Story::Corrected,
        _ => Story::Plain,
    };
    let path = |suffix: &str| format!("pos/{store}/{date}{suffix}.csv");
    let late = |position: usize| matches!(story, Story::Late) && position % 4 == 3;
    let spoil = matches!(story, Story::Corrected);

    let mut file = TextFile::with_header(path(""), HEADER);
    let mut late_file = TextFile::with_header(path(".late"), HEADER);
    for (position, receipt) in day.iter().enumerate() {
        let file = if late(position) { &mut late_file } else { &mut file };
        ring(file, &site.world, receipt, spoil.then_some(&mut dice));
        add_junk(file, receipt, &mut dice);
    }
    if index % 1_500 == 7 {
        file.cut_off(&format!("{store},99-{index:06},99,{date} 2"));
    }
    file.save(&site.root, written)?;
    match story {
        Story::Late => late_file.save(&site.root, written)?,
        Story::Corrected => {
            let mut corrected = TextFile::with_header(path(".v2"), HEADER);
            for receipt in day {
                ring(&mut corrected, &site.world, receipt, None);
            }
            corrected.save(&site.root, written)?;
        }
        Story::Plain => {}
    }
    if index % 8_000 == 11 {
        export(path(".export"), index).save(&site.root, written)?;
    }
    Ok(())
}

/// Writes a receipt. With `spoiled`, its first line is wrong and any other may be.
fn ring(file: &mut TextFile, world: &World, receipt: &Receipt, mut spoiled: Option<&mut ChaCha8Rng>) {
    let basket = &world.dataset.baskets[receipt.basket];
    let members = &world.households[basket.household].members;
    let card = receipt.member.map_or("", |member| members[member].card.as_str());
    let Receipt { store, till, sequence, payment, .. } = receipt;
    let sold_at = when::till_clock(receipt.at).to_string();
    let auth_code = text(receipt.auth_code);
    let psp_ref = text(receipt.psp_ref);
    let order_ref = receipt.order_ref.as_deref().unwrap_or("");
    for (index, line) in world.dataset.lines(basket).iter().enumerate() {
        let mut line = *line;
        if let Some(dice) = spoiled.as_deref_mut()
            && (index == 0 || dice.random_bool(0.2))
        {
            spoil(&mut line, dice);
        }
        let Line { product, quantity, amount, retail_discount, coupon_discount, coupon_match_discount } =
            line;
        file.line(format_args!(
            "{store},{till}-{sequence:06},{till},{sold_at},{card},{number},{product},{quantity},{amount},\
             {retail_discount},{coupon_discount},{coupon_match_discount},{payment},{auth_code},{psp_ref},{order_ref}",
            number = index + 1,
        ));
    }
}

fn text(value: Option<impl ToString>) -> String {
    value.map_or_else(String::new, |value| value.to_string())
}

fn spoil(line: &mut Line, dice: &mut ChaCha8Rng) {
    if dice.random_bool(0.5) {
        line.quantity += 1;
    } else {
        line.amount = Cents(line.amount.0 + dice.random_range(1..500));
    }
}

/// After a receipt, sometimes, a row of a receipt that was none.
fn add_junk(file: &mut TextFile, receipt: &Receipt, dice: &mut ChaCha8Rng) {
    if !dice.random_ratio(1, 220) {
        return;
    }
    let Receipt { store, at, .. } = receipt;
    let (date, number) = (when::day(*at), dice.random_range(0..1_000_000));
    let till = dice.random_range(91..99);
    let start = format!("{store},{till}-{number:06},{till},");
    match dice.random_range(0..3) {
        0 => file.junk(
            "unparsable_number",
            &format!("{start}{date} 12:00:00,,1,1082185,1,1.O9,0.00,0.00,0.00,cash,,,"),
        ),
        1 => file.junk(
            "unparsable_time",
            &format!("{start}{date} 25:61:00,,1,1082185,1,1.09,0.00,0.00,0.00,cash,,,"),
        ),
        _ => file.junk("missing_columns", &format!("{start}{date} 12:00:00,,1,1082185")),
    }
}

/// What another program wrote into the folder.
fn export(path: String, index: usize) -> TextFile {
    let mut file = TextFile::new(path);
    file.junk("wrong_header", "Bon;Kasse;Artikel;Menge;Betrag");
    file.junk("wrong_header", &format!("{index};91;1082185;1;1,09"));
    file.junk("wrong_header", &format!("{index};91;995242;2;3,18"));
    file
}
