//! Health, reflection, and what roles share.

use futures::{StreamExt as _, stream};
use mesh::{Config, ServerBuilder};
use tonic_health::pb::health_client::HealthClient;
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus};
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;

use crate::harness::{ROLE, Running, SERVICE, policy};

#[tokio::test]
async fn health_knows_the_server_and_each_service_until_it_stops() {
    let server = Running::start(Config::default(), None).await;
    let mut health = HealthClient::new(server.peers.channel_to(ROLE, "grpc.health.v1.Health"));
    for service in ["", SERVICE] {
        let request = HealthCheckRequest { service: service.to_owned() };
        let answer = health.check(request).await.unwrap().into_inner();
        assert_eq!(answer.status(), ServingStatus::Serving, "{service:?}");
    }
    let unknown = HealthCheckRequest { service: "no.such.Service".to_owned() };
    assert_eq!(health.check(unknown).await.unwrap_err().code(), tonic::Code::NotFound);
    server.stop().await;
}

#[tokio::test]
async fn reflection_lists_what_is_served_with_its_options() {
    let server = Running::start(Config::default(), None).await;
    let mut client =
        ServerReflectionClient::new(server.peers.channel_to(ROLE, "grpc.reflection.v1.ServerReflection"));
    let ask = |message| ServerReflectionRequest { host: String::new(), message_request: Some(message) };
    let requests = vec![
        ask(MessageRequest::ListServices(String::new())),
        ask(MessageRequest::FileContainingSymbol(SERVICE.to_owned())),
    ];
    let answers = client.server_reflection_info(stream::iter(requests)).await.unwrap().into_inner();
    let answers: Vec<_> =
        answers.map(|answer| answer.unwrap().message_response.unwrap()).take(2).collect().await;
    let MessageResponse::ListServicesResponse(list) = &answers[0] else { panic!("{:?}", answers[0]) };
    let mut names: Vec<_> = list.service.iter().map(|service| service.name.as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, ["grpc.health.v1.Health", "grpc.reflection.v1.ServerReflection", SERVICE]);
    assert!(
        matches!(&answers[1], MessageResponse::FileDescriptorResponse(files) if !files.file_descriptor_proto.is_empty())
    );
    server.stop().await;
}

#[tokio::test]
async fn shared_tells_who_made_the_value() {
    type Names = std::sync::Arc<std::sync::Mutex<Vec<&'static str>>>;
    let mut builder = ServerBuilder::new(Config::default(), policy(), None);
    let (first, first_is_new) = builder.shared::<Names>();
    let (second, second_is_new) = builder.shared::<Names>();
    assert_eq!((first_is_new, second_is_new), (true, false));
    first.lock().unwrap().push("order");
    assert_eq!(*second.lock().unwrap(), ["order"]);
}
