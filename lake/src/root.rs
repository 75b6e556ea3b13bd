//! Where a lake is: a directory, or a bucket of an object store that speaks S3.

use std::{
    fmt, io,
    path::{self, Path, PathBuf},
    str::FromStr,
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use lance::{Error as LanceError, Result as LanceResult};
use lance_io::object_store::{
    DEFAULT_CLOUD_IO_PARALLELISM, DEFAULT_DOWNLOAD_RETRY_COUNT, ObjectStore, ObjectStoreParams,
    ObjectStoreProvider, ObjectStoreRegistry,
};
use object_store::{
    RetryConfig,
    aws::{AmazonS3Builder, AmazonS3ConfigKey},
};
use reqwest::Url;
use serde::{Deserialize, Serialize};

use crate::Error;

const S3: &str = "s3";
/// How often, and for how long, a call that failed is tried again before its caller hears of it: also one that took
/// half a minute to fail, as without an answer, but not for as long as others wait for a writer.
const RETRIES: usize = 5;
const RETRY_TIME: Duration = Duration::from_secs(40);

/// Where a lake is. Written as a directory's path, `file:///path` or `s3://bucket/prefix`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Root {
    /// A directory.
    Directory(PathBuf),
    /// A bucket, or what is below a prefix in it, as a URL without a slash at its end.
    Bucket(String),
}

impl Root {
    /// The same place, from wherever it is looked at; a relative directory is meant from `base`.
    pub fn below(&self, base: &Path) -> io::Result<Self> {
        match self {
            Self::Directory(directory) => path::absolute(base.join(directory)).map(Self::Directory),
            Self::Bucket(url) => Ok(Self::Bucket(url.clone())),
        }
    }

    /// The directory, if it is one.
    pub fn directory(&self) -> Option<&Path> {
        match self {
            Self::Directory(directory) => Some(directory),
            Self::Bucket(_) => None,
        }
    }

    /// It as a URL, which Lance's readers open; a relative directory has none, and is as it is.
    pub(crate) fn uri(&self) -> String {
        let url = self.directory().and_then(|directory| Url::from_file_path(directory).ok());
        url.map_or_else(|| self.to_string(), String::from)
    }

    /// What is at a relative path in it, as Lance is told.
    pub(crate) fn at(&self, path: &str) -> String {
        match self {
            Self::Directory(directory) => directory.join(path).to_string_lossy().into_owned(),
            Self::Bucket(url) => format!("{url}/{path}"),
        }
    }
}

impl FromStr for Root {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let url = Url::parse(text).ok().filter(|url| url.query().is_none() && url.fragment().is_none());
        let root = match text.split_once("://") {
            None => (!text.is_empty()).then(|| Self::Directory(text.into())),
            Some(("file", _)) => url.and_then(|url| url.to_file_path().ok()).map(Self::Directory),
            Some((S3, rest)) => {
                let has_bucket = url.is_some_and(|url| url.has_host());
                has_bucket.then(|| Self::Bucket(format!("{S3}://{}", rest.trim_end_matches('/'))))
            }
            Some(_) => None,
        };
        root.ok_or_else(|| Error::Root(text.to_owned()))
    }
}

impl TryFrom<String> for Root {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        text.parse()
    }
}

impl From<Root> for String {
    fn from(root: Root) -> Self {
        root.to_string()
    }
}

impl<P: AsRef<Path> + ?Sized> From<&P> for Root {
    fn from(directory: &P) -> Self {
        Self::Directory(directory.as_ref().to_owned())
    }
}

impl From<&Root> for Root {
    fn from(root: &Root) -> Self {
        root.clone()
    }
}

impl From<PathBuf> for Root {
    fn from(directory: PathBuf) -> Self {
        Self::Directory(directory)
    }
}

impl fmt::Display for Root {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Directory(directory) => directory.display().fmt(f),
            Self::Bucket(url) => f.write_str(url),
        }
    }
}

/// The places that Lance may reach, for whoever opens the lake's tables by it. It commits to any other scheme without
/// care for other writers.
pub fn registry() -> Arc<ObjectStoreRegistry> {
    let registry = ObjectStoreRegistry::default();
    registry.insert(S3, Arc::new(Buckets));
    Arc::new(registry)
}

/// Buckets, of AWS unless `AWS_ENDPOINT_URL` says otherwise; the usual `AWS_…` variables say who asks.
#[derive(Debug)]
struct Buckets;

#[async_trait]
impl ObjectStoreProvider for Buckets {
    async fn new_store(&self, url: Url, params: &ObjectStoreParams) -> LanceResult<ObjectStore> {
        let bucket =
            url.host_str().ok_or_else(|| LanceError::invalid_input(format!("{url} names no bucket")))?;
        // Whichever is there first serves as well.
        rustls::crypto::ring::default_provider().install_default().ok();
        let builder = AmazonS3Builder::from_env().with_bucket_name(bucket).with_retry(RetryConfig {
            max_retries: RETRIES,
            retry_timeout: RETRY_TIME,
            ..RetryConfig::default()
        });
        let endpoint = builder.get_config_value(&AmazonS3ConfigKey::Endpoint).unwrap_or_default();
        let store = builder.with_allow_http(endpoint.starts_with("http://")).build()?;
        Ok(ObjectStore::new(
            Arc::new(store),
            url,
            params.block_size,
            None,
            false,
            true,
            DEFAULT_CLOUD_IO_PARALLELISM,
            DEFAULT_DOWNLOAD_RETRY_COUNT,
            None,
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_a_directory_or_a_bucket() {
        for (text, root, orders) in [
            ("lake", Root::from(Path::new("lake")), "lake/silver/orders.lance"),
            ("/data/a lake", Root::from(Path::new("/data/a lake")), "/data/a lake/silver/orders.lance"),
            (
                "file:///data/a%20lake",
                Root::from(Path::new("/data/a lake")),
                "/data/a lake/silver/orders.lance",
            ),
            ("s3://shop/", Root::Bucket("s3://shop".to_owned()), "s3://shop/silver/orders.lance"),
            (
                "s3://shop/eu/lake/",
                Root::Bucket("s3://shop/eu/lake".to_owned()),
                "s3://shop/eu/lake/silver/orders.lance",
            ),
        ] {
            let read: Root = text.parse().unwrap();
            assert_eq!(read, root, "{text}");
            assert_eq!(read.at("silver/orders.lance"), orders);
            assert_eq!(read.to_string().parse::<Root>().unwrap(), root);
        }
        let elsewhere = ["gs://shop/lake", "s3+ddb://shop/lake", "memory://x", "S4://x"];
        for text in elsewhere.into_iter().chain(["s3://", "s3://shop?x=1", "file://host/lake", ""]) {
            let error = text.parse::<Root>().unwrap_err().to_string();
            assert!(error.contains(text) && error.contains("s3://bucket/prefix"), "{error}");
        }
    }

    #[test]
    fn only_a_relative_directory_depends_on_where_it_is_meant_from() {
        let below = |text: &str, base: &str| text.parse::<Root>().unwrap().below(base.as_ref()).unwrap();
        assert_eq!(below("lake", "/data").to_string(), "/data/lake");
        assert_eq!(below("/lake", "/data").to_string(), "/lake");
        assert_eq!(below("s3://shop/lake", "/data").to_string(), "s3://shop/lake");
        let here = std::env::current_dir().unwrap();
        assert_eq!(below("lake", "data").directory(), Some(&*here.join("data/lake")));
        assert_eq!(below("lake", ".").directory(), Some(&*here.join("lake")));
    }

    #[test]
    fn a_place_is_told_as_a_url() {
        for (text, uri) in [
            ("/data/lake", "file:///data/lake"),
            ("/data/a 50% lake", "file:///data/a%2050%25%20lake"),
            ("file:///data/a%20lake", "file:///data/a%20lake"),
            ("s3://shop/eu", "s3://shop/eu"),
        ] {
            let root: Root = text.parse().unwrap();
            assert_eq!(root.uri(), uri);
            assert_eq!(uri.parse::<Root>().unwrap(), root);
        }
    }
}
