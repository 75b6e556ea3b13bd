//! RunSource: files in other encodings than UTF-8, and with a mark of their byte order.

use ingest::Definition;

use crate::{
    rpc_run_source_again::landed_with_bytes,
    sandbox::{GRANTS, Sandbox},
    silo::{POS_HEADER, Silo, document, row},
};

const MEMBERS: &[u8] = b"card_number,name,email,phone,street,city,postcode,enrolled_at,updated_at\n";
const MEMBER: &[u8] = b"601,\"L\xd3PEZ, JOS\xc9\",,614,,,,2016-05-17,";

/// The loyalty programme, whose members are in windows-1252.
fn loyalty(silo: &Silo) -> Vec<Definition> {
    let (name, text) = ("name = \"members\"", include_str!("../../sources/loyalty.toml"));
    let text = text.replace(name, &format!("{name}\nencoding = \"windows-1252\""));
    vec![Definition::parse(&text, "loyalty.toml").expect("a definition").below(&silo.path(""))]
}

#[tokio::test]
async fn run_source_reads_a_file_in_its_encoding() {
    let silo = Silo::new();
    silo.write("loyalty/members.csv", [MEMBERS, MEMBER].concat());
    let sandbox = Sandbox::new(loyalty(&silo)).await;
    for _ in 0..2 {
        sandbox.run("loyalty").await.expect("a run");
        assert_eq!(sandbox.counts("loyalty", "members").await, [1, 1, 0, 1]);
    }
    let member = sandbox.person("loyalty", "601").await;
    assert_eq!((member.given_name.as_str(), member.family_name.as_str()), ("JOSÉ", "LÓPEZ"));
    let landed = landed_with_bytes(&sandbox, "loyalty").await;
    let [(_, _, payload, bytes)] = landed.as_slice() else { panic!("{landed:?}") };
    assert_eq!(payload, "601,\"LÓPEZ, JOSÉ\",,614,,,,2016-05-17,");
    assert_eq!(bytes.as_deref(), Some(MEMBER));
}

#[tokio::test]
async fn run_source_reads_a_file_again_whose_encoding_became_known() {
    let silo = Silo::new();
    let write = || silo.write("loyalty/members.csv", [MEMBERS, MEMBER].concat());
    write();
    let sandbox = Sandbox::new(silo.source("loyalty")).await;
    sandbox.run("loyalty").await.expect("a run");
    assert_eq!(sandbox.counts("loyalty", "members").await, [1, 0, 1, 1]);
    write();
    let sandbox = sandbox.restart(loyalty(&silo), GRANTS).await;
    sandbox.run("loyalty").await.expect("a run");
    assert_eq!(sandbox.counts("loyalty", "members").await, [1, 1, 0, 1]);
    assert_eq!(sandbox.person("loyalty", "601").await.given_name, "JOSÉ");
    assert_eq!(sandbox.quarantined().await, []);
}

#[tokio::test]
async fn run_source_passes_over_a_byte_order_mark() {
    let silo = Silo::new();
    let order = document("1", "SHIPPED", "0.50");
    let receipt = row("3-1", 1, "7", 2, "1.50");
    silo.write("marketplace/a.jsonl", format!("\u{feff}{order}\n"));
    silo.write("pos/330/a.csv", format!("\u{feff}{POS_HEADER}\n{receipt}\n"));
    let sandbox = Sandbox::new(silo.sources()).await;
    for (system, entity, payload) in [("marketplace", "orders", order), ("pos", "receipts", receipt)] {
        sandbox.run(system).await.expect("a run");
        assert_eq!(sandbox.counts(system, entity).await, [1, 1, 0, 1]);
        let landed = landed_with_bytes(&sandbox, system).await;
        let [(_, _, landed, bytes)] = landed.as_slice() else { panic!("{landed:?}") };
        assert_eq!((landed, bytes), (&payload, &None));
    }
}
