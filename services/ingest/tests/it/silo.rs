//! A folder of source files, and the definitions over it.

use std::{fs, path::PathBuf};

use ingest::{Definition, demo_sources};
use tempfile::TempDir;

/// A temporary silo.
pub(crate) struct Silo(TempDir);

pub(crate) const POS_HEADER: &str = "store_id,receipt_no,till,sold_at,loyalty_card,line,product_id,quantity,amount,\
    retail_discount,coupon_discount,coupon_match_discount,payment_type,auth_code,psp_ref,order_ref";

impl Silo {
    /// A silo with every folder of the demo's, empty.
    pub(crate) fn new() -> Self {
        let silo = Self(TempDir::new().expect("a temporary directory"));
        for folder in ["pos", "marketplace", "events", "loyalty", "stock", "shop"] {
            fs::create_dir(silo.path(folder)).expect("a folder");
        }
        silo
    }

    pub(crate) fn path(&self, path: &str) -> PathBuf {
        self.0.path().join(path)
    }

    /// Writes a file; its modification time is never the same twice.
    pub(crate) fn write(&self, path: &str, content: impl AsRef<[u8]>) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        let before = fs::metadata(&path).and_then(|metadata| metadata.modified()).ok();
        fs::write(&path, content).expect("written");
        if let Some(before) = before {
            let file = fs::File::options().append(true).open(&path).expect("a file");
            file.set_modified(before + std::time::Duration::from_secs(1)).expect("a time");
        }
    }

    /// Rows of the loyalty programme's members.
    pub(crate) fn members(&self, rows: &str) {
        let header = "card_number,name,email,phone,street,city,postcode,enrolled_at,updated_at";
        self.write("loyalty/members.csv", format!("{header}\n{rows}"));
    }

    /// Rows under the tills' header.
    pub(crate) fn pos(&self, path: &str, rows: &[String]) {
        self.write(path, format!("{POS_HEADER}\n{}\n", rows.join("\n")));
    }

    /// The demo's sources over this silo.
    pub(crate) fn sources(&self) -> Vec<Definition> {
        demo_sources(self.0.path(), None).expect("definitions")
    }

    /// The demo's source of `system`.
    pub(crate) fn source(&self, system: &str) -> Vec<Definition> {
        self.sources().into_iter().filter(|source| source.system == system).collect()
    }
}

/// A row of a cash receipt.
pub(crate) fn row(receipt: &str, line: u32, sku: &str, quantity: i64, amount: &str) -> String {
    format!("330,{receipt},3,2017-01-01 11:53:26,,{line},{sku},{quantity},{amount},0.10,0.05,0.00,cash,,,")
}

/// A marketplace document.
pub(crate) fn document(order: &str, status: &str, amount: &str) -> String {
    format!(
        r#"{{"_id":{{"$oid":"58"}},"orderNo":"{order}","createdAt":{{"$date":"2017-01-01T11:53:26Z"}},"updatedAt":{{"$date":"2017-01-02T08:10:00Z"}},"status":"{status}","currency":"USD","merchantOrderNo":"S-1","storeId":"330","buyer":{{"id":"B1","name":"LOPEZ, MARIA","email":"m@example.com"}},"items":[{{"line":1,"sku":"7","quantity":2,"amount":{{"$numberDecimal":"{amount}"}},"couponDiscount":{{"$numberDecimal":"0.25"}}}}],"total":{{"$numberDecimal":"0.50"}},"payment":{{"method":"card","amount":{{"$numberDecimal":"0.50"}}}}}}"#
    )
}
