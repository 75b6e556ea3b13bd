//! The loyalty programme: members and what marketing knows and sends, as CSV.

use std::collections::BTreeMap;

use crate::{
    Error, Site,
    people::Member,
    text_file::{TextFile, Written, directory},
    when,
};

pub(crate) fn write(site: &Site) -> Result<Written, Error> {
    directory(&site.root, "loyalty")?;
    let mut written = Written::default();
    for file in [
        members(site, &mut written),
        demographics(site),
        campaigns(site),
        campaign_descriptions(site),
        coupons(site),
        redemptions(site),
    ] {
        file.save(&site.root, &mut written)?;
    }
    Ok(written)
}

fn members(site: &Site, written: &mut Written) -> TextFile {
    let mut file = TextFile::with_header(
        "loyalty/members.csv".to_owned(),
        "card_number,name,email,phone,street,city,postcode,enrolled_at,updated_at",
    );
    for (index, member) in site.world.households.iter().flat_map(|household| &household.members).enumerate() {
        let Member { card, name, contact, address, enrolled_at, updated_at } = member;
        let [street, city, postcode] = address.as_ref().map_or([""; 3], |address| {
            [address.street.as_str(), address.city.as_str(), address.postcode.as_str()]
        });
        let email = contact.email.as_deref().unwrap_or("");
        let phone = contact.phone.as_deref().unwrap_or("");
        let (enrolled, updated) = (when::day(*enrolled_at).to_string(), updated_at.to_string());
        file.csv([card, name, email, phone, street, city, postcode, &enrolled, &updated]);
        written.tally.people += 1;
        written.tally.records += 1;
        match index % 1_000 {
            77 => file.junk("missing_columns", &format!("{:012},Test Member", 900_000 + index)),
            177 => file.junk(
                "unparsable_time",
                &format!("{:012},Test Member,,,,,,31/02/2017,yesterday", 900_000 + index),
            ),
            _ => {}
        }
    }
    file
}

/// The dataset's rows are of households; the programme knows them by their first card.
fn cards(site: &Site) -> BTreeMap<u32, &str> {
    site.world
        .households
        .iter()
        .filter_map(|household| Some((household.id, household.members.first()?.card.as_str())))
        .collect()
}

fn demographics(site: &Site) -> TextFile {
    let mut file = TextFile::with_header(
        "loyalty/demographics.csv".to_owned(),
        "card_number,age,income,home_ownership,marital_status,household_size,household_comp,kids_count",
    );
    let cards = cards(site);
    for row in &site.world.dataset.demographics {
        let texts = row.texts.iter().map(|text| text.as_deref().unwrap_or(""));
        file.csv([cards[&row.household]].into_iter().chain(texts));
    }
    file
}

fn campaigns(site: &Site) -> TextFile {
    let mut file = TextFile::with_header("loyalty/campaigns.csv".to_owned(), "campaign_id,card_number");
    let cards = cards(site);
    for (campaign, household) in &site.world.dataset.targets {
        file.line(format_args!("{campaign},{}", cards[household]));
    }
    file
}

fn campaign_descriptions(site: &Site) -> TextFile {
    let mut file = TextFile::with_header(
        "loyalty/campaign_descriptions.csv".to_owned(),
        "campaign_id,campaign_type,start_date,end_date",
    );
    for campaign in &site.world.dataset.campaigns {
        let (start, end) = (when::day(campaign.start), when::day(campaign.end));
        file.line(format_args!("{},{},{start},{end}", campaign.id, campaign.kind));
    }
    file
}

fn coupons(site: &Site) -> TextFile {
    let mut file =
        TextFile::with_header("loyalty/coupons.csv".to_owned(), "coupon_upc,product_id,campaign_id");
    for coupon in &site.world.dataset.coupons {
        file.line(format_args!("{},{},{}", coupon.upc, coupon.product, coupon.campaign));
    }
    file
}

fn redemptions(site: &Site) -> TextFile {
    let mut file = TextFile::with_header(
        "loyalty/redemptions.csv".to_owned(),
        "card_number,coupon_upc,campaign_id,redemption_date",
    );
    let cards = cards(site);
    for row in &site.world.dataset.redemptions {
        let date = when::day(row.at);
        file.line(format_args!("{},{},{},{date}", cards[&row.household], row.upc, row.campaign));
    }
    file
}
