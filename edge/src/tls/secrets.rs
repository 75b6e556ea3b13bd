//! Certificates that a TLS context names instead of holding: they stand in the bootstrap, or in a file of their own.

use std::collections::HashMap;

use envoy_types::pb::envoy::config::bootstrap::v3::bootstrap::StaticResources;
use envoy_types::pb::envoy::config::core::v3::TransportSocket;
use envoy_types::pb::envoy::config::core::v3::config_source::ConfigSourceSpecifier;
use envoy_types::pb::envoy::config::core::v3::transport_socket::ConfigType;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3 as pb;
use envoy_types::pb::google::protobuf::Any;
use pb::common_tls_context::ValidationContextType;
use pb::secret::Type;
use pb::{
    CertificateValidationContext, CommonTlsContext, DownstreamTlsContext, SdsSecretConfig, UpstreamTlsContext,
};
use prost::{Message, Name};

use crate::bootstrap::{load_secrets, type_name, unpack};
use crate::problem::{Path, Problem};

/// What is named, where it stands in the bootstrap; and the files that were read for the rest.
#[derive(Debug)]
struct Secrets {
    known: HashMap<String, Type>,
    files: Vec<String>,
}

/// Puts what is named in the place of its name. Returns the files that hold some of it.
pub(crate) fn inline(resources: &mut StaticResources, at: &Path<'_>) -> Result<Vec<String>, Problem> {
    let known = resources.secrets.iter();
    let known = known.filter_map(|secret| Some((secret.name.clone(), secret.r#type.clone()?)));
    let mut secrets = Secrets { known: known.collect(), files: Vec::new() };
    let listeners = at.field("listeners");
    for (index, listener) in resources.listeners.iter_mut().enumerate() {
        let at = listeners.index(index);
        let (chains, default) = (at.field("filter_chains"), at.field("default_filter_chain"));
        for (index, chain) in listener.filter_chains.iter_mut().enumerate() {
            secrets.fill(chain.transport_socket.as_mut(), &chains.index(index))?;
        }
        let chain = listener.default_filter_chain.as_mut();
        secrets.fill(chain.and_then(|chain| chain.transport_socket.as_mut()), &default)?;
    }
    let clusters = at.field("clusters");
    for (index, cluster) in resources.clusters.iter_mut().enumerate() {
        secrets.fill(cluster.transport_socket.as_mut(), &clusters.index(index))?;
    }
    Ok(secrets.files)
}

impl Secrets {
    fn fill(&mut self, socket: Option<&mut TransportSocket>, at: &Path<'_>) -> Result<(), Problem> {
        let Some(ConfigType::TypedConfig(any)) = socket.and_then(|socket| socket.config_type.as_mut()) else {
            return Ok(());
        };
        let at = at.field("transport_socket");
        let at = at.field("typed_config");
        if type_name(&any.type_url) == DownstreamTlsContext::full_name() {
            self.fill_context(any, |context: &mut DownstreamTlsContext| &mut context.common_tls_context, &at)
        } else if type_name(&any.type_url) == UpstreamTlsContext::full_name() {
            self.fill_context(any, |context: &mut UpstreamTlsContext| &mut context.common_tls_context, &at)
        } else {
            Ok(())
        }
    }

    fn fill_context<T: Message + Name + Default>(
        &mut self,
        any: &mut Any,
        common: impl Fn(&mut T) -> &mut Option<CommonTlsContext>,
        at: &Path<'_>,
    ) -> Result<(), Problem> {
        let mut context: T = unpack(any, at)?;
        if let Some(common) = common(&mut context) {
            self.resolve(common, &at.field("common_tls_context"))?;
        }
        any.value = context.encode_to_vec();
        Ok(())
    }

    fn resolve(&mut self, common: &mut CommonTlsContext, at: &Path<'_>) -> Result<(), Problem> {
        let certificates = at.field("tls_certificate_sds_secret_configs");
        for (index, named) in
            std::mem::take(&mut common.tls_certificate_sds_secret_configs).iter().enumerate()
        {
            let at = certificates.index(index);
            match self.find(named, &at)? {
                Type::TlsCertificate(certificate) => common.tls_certificates.push(certificate),
                _ => return Err(at.problem(format!("{} is no tls_certificate", named.name))),
            }
        }
        let context = match common.validation_context_type.take() {
            Some(ValidationContextType::ValidationContextSdsSecretConfig(named)) => {
                self.validation(&named, &at.field("validation_context_sds_secret_config"))?
            }
            Some(ValidationContextType::CombinedValidationContext(combined)) => {
                let at = at.field("combined_validation_context");
                let mut context = combined.default_validation_context.unwrap_or_default();
                if let Some(named) = &combined.validation_context_sds_secret_config {
                    let found = self.validation(named, &at.field("validation_context_sds_secret_config"))?;
                    // What is said in both is merged as protobuf merges: lists are joined, the rest is replaced.
                    context
                        .merge(found.encode_to_vec().as_slice())
                        .map_err(|error| at.problem(format!("cannot be merged: {error}")))?;
                }
                context
            }
            other => {
                common.validation_context_type = other;
                return Ok(());
            }
        };
        common.validation_context_type = Some(ValidationContextType::ValidationContext(context));
        Ok(())
    }

    fn validation(
        &mut self,
        named: &SdsSecretConfig,
        at: &Path<'_>,
    ) -> Result<CertificateValidationContext, Problem> {
        match self.find(named, at)? {
            Type::ValidationContext(context) => Ok(context),
            _ => Err(at.problem(format!("{} is no validation_context", named.name))),
        }
    }

    fn find(&mut self, named: &SdsSecretConfig, at: &Path<'_>) -> Result<Type, Problem> {
        let name = &named.name;
        let Some(source) = &named.sds_config else {
            let known = self.known.get(name).cloned();
            return known.ok_or_else(|| at.problem(format!("static_resources.secrets has no {name}")));
        };
        let at = at.field("sds_config");
        let Some(ConfigSourceSpecifier::PathConfigSource(source)) = &source.config_source_specifier else {
            return Err(
                at.problem("secrets come from path_config_source, a file, or static_resources.secrets")
            );
        };
        let (path, at) = (&source.path, at.field("path_config_source"));
        let text = std::fs::read_to_string(path)
            .map_err(|error| at.field("path").problem(format!("cannot read {path}: {error}")))?;
        let secrets =
            load_secrets(&text).map_err(|problem| at.field("path").problem(problem.in_file(path)))?;
        self.files.push(path.clone());
        let found = secrets.into_iter().find(|secret| secret.name == *name).and_then(|secret| secret.r#type);
        found.ok_or_else(|| at.problem(format!("{path} has no secret {name}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bootstrap;

    const CLUSTER: &str = r#"
static_resources:
  clusters:
  - name: backend
    transport_socket:
      name: tls
      typed_config:
        "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext
        common_tls_context:
          tls_certificate_sds_secret_configs:
          - { name: own, sds_config: { path_config_source: { path: "{FILE}" } } }
"#;

    const SECRET: &str = r#"
resources:
- "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret
  name: own
  tls_certificate: { certificate_chain: { filename: own.crt }, private_key: { filename: own.key } }
"#;

    fn inlined(secret: &str) -> Result<(CommonTlsContext, Vec<String>), Problem> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), secret).unwrap();
        let text = CLUSTER.replace("{FILE}", &file.path().display().to_string());
        let mut resources = bootstrap::load(&text).unwrap().bootstrap.static_resources.unwrap();
        let files = inline(&mut resources, &Path::root())?;
        let socket = resources.clusters[0].transport_socket.clone().unwrap();
        let Some(ConfigType::TypedConfig(any)) = socket.config_type else { panic!("a type") };
        let context: UpstreamTlsContext = unpack(&any, &Path::root())?;
        Ok((context.common_tls_context.unwrap(), files))
    }

    #[test]
    fn a_file_of_secrets_stands_for_its_names() {
        let (common, files) = inlined(SECRET).unwrap();
        assert!(common.tls_certificate_sds_secret_configs.is_empty());
        assert_eq!(crate::tls::files(&common), ["own.crt", "own.key"]);
        assert_eq!(files.len(), 1);
    }

    #[test]
    fn what_is_not_in_the_file_is_a_problem_with_its_place() {
        let problem = inlined(&SECRET.replace("name: own", "name: other")).unwrap_err();
        assert!(problem.message.ends_with("has no secret own"), "{problem}");
        let problem = inlined("resources: [{}]").unwrap_err();
        assert!(problem.path.ends_with("sds_config.path_config_source.path"), "{problem}");
    }
}
