//! What visitors of the shop do and what the loyalty programme hands out, as it lands: in pieces, with junk between, some
//! of it again and corrected.

use events::NewEvent;
use omnimesh_proto::ingest::v1::RecordsLanded;
use rand::{SeedableRng, seq::SliceRandom};
use rand_chacha::ChaCha8Rng;

use crate::{
    sandbox::Sandbox,
    world::{at, changed, records},
};

const VISITORS: usize = 12;

/// Lines of a file that land together: of an object in one of its revisions, from one of its lines on.
struct Landing {
    system: &'static str,
    entity: &'static str,
    object: String,
    revision: i64,
    first: usize,
    second: i64,
    lines: Vec<String>,
}

impl Landing {
    fn event(&self) -> NewEvent {
        let lines = self.lines.iter().zip(self.first..);
        let records: Vec<_> = lines.map(|(line, number)| (number.to_string(), line.clone())).collect();
        let payload = RecordsLanded {
            system: self.system.to_owned(),
            entity: self.entity.to_owned(),
            object: self.object.clone(),
            record_count: records.len() as i64,
            read_time: at(self.second),
            records: self::records(&records).into(),
            first_position: self.first as i64,
            revision: self.revision,
            ..RecordsLanded::default()
        };
        changed("omnimesh.ingest.v1.RecordsLanded", format!("sources/{}", self.system), &payload)
    }
}

/// Lands everything once in its order, or with all of it again in any.
pub(crate) async fn publish(sandbox: &Sandbox, shuffle: Option<u64>) {
    let landings = clicks().into_iter().chain(loyalty());
    let mut events: Vec<_> = landings.map(|landing| landing.event()).collect();
    if let Some(seed) = shuffle {
        let again: Vec<_> = clicks().into_iter().chain(loyalty()).map(|landing| landing.event()).collect();
        events.extend(again);
        events.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
    }
    sandbox.publish("ingest", &events, 5).await;
}

/// Lands once what visitors do, of some kinds alone.
pub(crate) async fn publish_clicks(sandbox: &Sandbox, entities: &[&str]) {
    let landings = clicks().into_iter().filter(|landing| entities.contains(&landing.entity));
    let events: Vec<_> = landings.map(|landing| landing.event()).collect();
    sandbox.publish("ingest", &events, 5).await;
}

fn click(id: &str, minute: usize, visitor: usize, customer: Option<usize>, rest: &str) -> String {
    let customer = customer.map_or("null".to_owned(), |number| format!("\"{number}\""));
    format!(
        r#"{{"event_id":"{id}","occurred_at":"2017-03-01T{:02}:{:02}:00.5Z","session_id":"s-{visitor}","#,
        minute / 60,
        minute % 60
    ) + &format!(r#""device_id":"d-{visitor}","customer_id":{customer},{rest}}}"#)
}

/// Each visitor looks at two things 30 minutes apart, and comes back 31 minutes later; every third then buys as the
/// customer of that number.
fn clicks() -> Vec<Landing> {
    let mut topics: [Vec<String>; 4] = Default::default();
    for visitor in 0..VISITORS {
        let minute = 60 + visitor;
        let id = |step: usize| format!("e-{visitor:02}-{step}");
        let view = |step: usize, minute| {
            let sku = format!(r#""product_id":"{step}""#);
            click(&id(step), minute, visitor, None, &sku)
        };
        topics[0].extend([view(1, minute), view(2, minute + 30)]);
        let search = r#""query":"cheese","results":4"#;
        topics[1].push(click(&id(3), minute + 61, visitor, None, search));
        topics[2].push(click(
            &id(4),
            minute + 62,
            visitor,
            Some(visitor),
            r#""product_id":"2","quantity":1"#,
        ));
        if visitor % 3 == 0 {
            let order = format!(
                r#""order_id":"{visitor}","total_minor":{},"currency":"USD","lines":1"#,
                100 + visitor
            );
            topics[3].push(click(&id(5), minute + 63, visitor, Some(visitor), &order));
        }
    }
    let junk = [r#"{"event_id":"junk-1","session_id":"s-0"}"#, r#"{"event_id":"junk-2","#, "[]"];
    let landing = |entity: &'static str, lines: Vec<String>| {
        let lines = lines.into_iter().chain(junk.map(str::to_owned)).collect::<Vec<_>>();
        let (head, tail) = lines.split_at(lines.len() / 2);
        let object = format!("{entity}/2017-03-01.jsonl");
        let piece = |first, second, lines: &[String]| Landing {
            system: "events",
            entity,
            object: object.clone(),
            revision: 0,
            first,
            second,
            lines: lines.to_vec(),
        };
        [piece(1, 1, head), piece(1 + head.len(), 2, tail)]
    };
    let [views, searches, baskets, purchases] = topics;
    // The first line of the views again, in a file that came later and says more.
    let corrected = views[0].replace(r#""product_id":"1""#, r#""product_id":"7""#);
    let late = Landing {
        system: "events",
        entity: "views",
        object: "views/2017-03-01.late.jsonl".to_owned(),
        revision: 0,
        first: 1,
        second: 3,
        lines: vec![corrected],
    };
    let landings = [
        landing("views", views),
        landing("searches", searches),
        landing("baskets", baskets),
        landing("purchases", purchases),
    ];
    landings.into_iter().flatten().chain([late]).collect()
}

/// The programme's files, of which that of the coupons is written anew without its last line.
fn loyalty() -> Vec<Landing> {
    let file = |entity: &'static str, object: &str, revision, lines: &[&str]| Landing {
        system: "loyalty",
        entity,
        object: format!("{object}.csv"),
        revision,
        first: 2,
        second: 1 + revision,
        lines: lines.iter().map(|line| (*line).to_owned()).collect(),
    };
    vec![
        file("campaigns", "campaigns", 0, &["26,6001", "26,6002", "27,6001", "27,6001", "28"]),
        file(
            "campaign_descriptions",
            "campaign_descriptions",
            0,
            &[
                "26,Type A,2017-01-01,2017-02-01",
                "27,\"Type B, local\",2017-03-01,2017-04-01",
                "28,Type A,soon,",
            ],
        ),
        file(
            "campaign_descriptions",
            "campaign_descriptions",
            1,
            &["26,Type A,2017-01-01,2017-02-28", "27,\"Type B, local\",2017-03-01,2017-04-01"],
        ),
        file("coupons", "coupons", 0, &["501,1,26", "501,2,26", "501,2,26", "502,1,27", "503,9,27"]),
        file("coupons", "coupons", 1, &["501,1,26", "501,2,26", "501,2,26", "502,1,27"]),
        file(
            "redemptions",
            "redemptions",
            0,
            &["6001,501,26,2017-01-07", "6001,501,26,2017-01-08", "6001,501,26,2017-01-07", "6002,501,26,x"],
        ),
        file(
            "demographics",
            "demographics",
            0,
            &["6001,45-54,50-74K,Homeowner,Unmarried,1,1 Adult No Kids,0"],
        ),
    ]
}
