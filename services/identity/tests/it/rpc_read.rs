//! `GetIdentity`, `ListIdentities` and `ResolveIdentity`.

use omnimesh_proto::identity::v1::{self as pb, resolve_identity_request::Key};
use tonic::Code;

use crate::sandbox::{Sandbox, fields, reason, record, source_ref};

#[tokio::test]
async fn get_identity_returns_the_person() {
    for sandbox in Sandbox::on_both_engines().await {
        let mut written = record("shop:1", 1, &["a@x.example"]);
        written.given_name = "Maria".to_owned();
        written.address =
            Some(omnimesh_proto::r#type::v1::Address { city: "Dayton".to_owned(), ..Default::default() });
        sandbox.import(&[&[written.clone()]]).await;
        let person = sandbox.owner("shop:1").await;
        let request = pb::GetIdentityRequest { name: person.name.clone() };
        let answer = sandbox.client.clone().get_identity(request).await.expect("found").into_inner();
        assert_eq!(answer.identity.as_ref(), Some(&person));
        assert_eq!(person.records, [written]);
    }
}

#[tokio::test]
async fn get_identity_refuses_what_is_absent_or_no_name() {
    for sandbox in Sandbox::on_both_engines().await {
        for (name, code, expect) in [
            ("identities/00000000-0000-7000-8000-000000000000", Code::NotFound, "IDENTITY_NOT_FOUND"),
            ("customers/1", Code::InvalidArgument, "INVALID_REQUEST"),
            ("identities/1", Code::InvalidArgument, "INVALID_REQUEST"),
        ] {
            let request = pb::GetIdentityRequest { name: name.to_owned() };
            let error = sandbox.client.clone().get_identity(request).await.expect_err(name);
            assert_eq!((error.code(), reason(&error).as_str()), (code, expect), "{name}");
        }
    }
}

#[tokio::test]
async fn list_identities_pages_through_everybody_once() {
    for sandbox in Sandbox::on_both_engines().await {
        let records: Vec<_> =
            (0..7).map(|n| record(&format!("shop:{n}"), n, &[&format!("{n}@x.example")])).collect();
        let portions: Vec<_> = records.chunks(3).collect();
        sandbox.import(&portions).await;
        let mut seen = Vec::new();
        let mut page_token = String::new();
        loop {
            let request = pb::ListIdentitiesRequest { page_size: 3, page_token, ..Default::default() };
            let page = sandbox.client.clone().list_identities(request).await.expect("listed").into_inner();
            seen.extend(page.identities);
            page_token = page.next_page_token;
            if page_token.is_empty() {
                break;
            }
        }
        assert_eq!(seen, sandbox.everybody().await);
        let ids: std::collections::BTreeSet<_> = seen.iter().map(|person| &person.golden_id).collect();
        assert_eq!((seen.len(), ids.len()), (7, 7));
    }
}

#[tokio::test]
async fn list_identities_filters_and_orders_by_time() {
    for sandbox in Sandbox::on_both_engines().await {
        let records: Vec<_> =
            (0..5).map(|n| record(&format!("shop:{n}"), n, &[&format!("{n}@x.example")])).collect();
        let portions: Vec<_> = records.chunks(1).collect();
        sandbox.import(&portions).await;
        sandbox.import(&[&[record("shop:0", 9, &["0@y.example"])]]).await;
        let everybody = sandbox.everybody().await;
        let time = |time: &Option<prost_types::Timestamp>| {
            time.as_ref().map(ToString::to_string).unwrap_or_default()
        };
        let third = time(&everybody[2].create_time);
        for (filter, order_by, expect) in [
            (String::new(), "create_time desc", vec![4, 3, 2, 1, 0]),
            (format!("create_time >= {third}"), "create_time", vec![2, 3, 4]),
            (format!("create_time > {third}"), "create_time desc", vec![4, 3]),
            (format!("create_time < {third} AND update_time > {third}"), "", vec![0]),
        ] {
            let mut seen = Vec::new();
            let order_by = order_by.to_owned();
            let mut request =
                pb::ListIdentitiesRequest { page_size: 2, filter, order_by, ..Default::default() };
            loop {
                let page = sandbox.client.clone().list_identities(request.clone()).await.expect("listed");
                let page = page.into_inner();
                seen.extend(page.identities.into_iter().map(|person| person.golden_id));
                request.page_token = page.next_page_token;
                if request.page_token.is_empty() {
                    break;
                }
            }
            let expect: Vec<_> =
                expect.into_iter().map(|at: usize| everybody[at].golden_id.clone()).collect();
            assert_eq!(seen, expect, "{} {}", request.filter, request.order_by);
        }
    }
}

#[tokio::test]
async fn list_identities_refuses_other_filters_orders_and_tokens() {
    for sandbox in Sandbox::on_both_engines().await {
        let default = pb::ListIdentitiesRequest::default;
        for (request, field) in [
            (pb::ListIdentitiesRequest { filter: "email = x".to_owned(), ..default() }, "filter"),
            (pb::ListIdentitiesRequest { order_by: "email".to_owned(), ..default() }, "order_by"),
            (pb::ListIdentitiesRequest { page_token: "x".to_owned(), ..default() }, "page_token"),
            (pb::ListIdentitiesRequest { page_size: -1, ..default() }, "page_size"),
        ] {
            let error = sandbox.client.clone().list_identities(request).await.expect_err(field);
            assert_eq!(fields(&error), [field]);
        }
    }
}

#[tokio::test]
async fn resolve_identity_takes_keys_in_any_spelling() {
    for sandbox in Sandbox::on_both_engines().await {
        sandbox.import(&[&[record("shop:1", 1, &["a@x.example", "+15135550101", "#98-01"])]]).await;
        let expect = sandbox.owner("shop:1").await.golden_id;
        for key in [
            Key::Email(" A@X.example".to_owned()),
            Key::Phone("(513) 555-0101".to_owned()),
            Key::LoyaltyCard("9801".to_owned()),
            Key::Source(source_ref("shop:1")),
        ] {
            assert_eq!(sandbox.resolve(key.clone()).await.expect("known").golden_id, expect, "{key:?}");
        }
    }
}

#[tokio::test]
async fn resolve_identity_refuses_what_is_absent_generic_or_no_key() {
    for sandbox in Sandbox::on_both_engines().await {
        let shared: Vec<_> = (0..4).map(|n| record(&format!("shop:{n}"), 1, &["info@x.example"])).collect();
        sandbox.import(&[&shared]).await;
        for (key, code) in [
            (Key::Email("info@x.example".to_owned()), Code::NotFound),
            (Key::Email("noreply@x.example".to_owned()), Code::NotFound),
            (Key::LoyaltyCard("1".to_owned()), Code::NotFound),
            (Key::Source(source_ref("shop:9")), Code::NotFound),
            (Key::Email("nobody".to_owned()), Code::InvalidArgument),
            (Key::Phone("555-0101".to_owned()), Code::InvalidArgument),
            (Key::LoyaltyCard(" ".to_owned()), Code::InvalidArgument),
            (Key::Source(Default::default()), Code::InvalidArgument),
        ] {
            assert_eq!(sandbox.resolve(key.clone()).await.expect_err("refused").code(), code, "{key:?}");
        }
        let error = sandbox.client.clone().resolve_identity(pb::ResolveIdentityRequest { key: None }).await;
        assert_eq!(fields(&error.expect_err("refused")), ["key"]);
    }
}
