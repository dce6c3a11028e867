//! TLS to RabbitMQ and PostgreSQL: the server is verified, and the client presents its certificate.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use broker::Broker;
use broker_rabbitmq::{AmqpUrl, RabbitMq};
use event::ClientTls;
use harness::{NodeOptions, Postgres};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use store::Store;

/// An authority with a certificate for 127.0.0.1 and one for a client, each a PEM file with its key beside it.
pub(crate) struct Certificates {
    folder: tempfile::TempDir,
}

impl Certificates {
    pub(crate) fn make() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let mut authority = CertificateParams::new(Vec::new())?;
        authority.distinguished_name.push(DnType::CommonName, "authority");
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate()?;
        fs::write(folder.path().join("ca.crt"), authority.self_signed(&key)?.pem())?;
        let issuer = Issuer::new(authority, key);
        for (name, host) in [("server", "127.0.0.1"), ("client", "malote")] {
            let key = KeyPair::generate()?;
            let mut params = CertificateParams::new(vec![host.to_owned()])?;
            params.distinguished_name.push(DnType::CommonName, name);
            let certificate = params.signed_by(&key, &issuer)?;
            fs::write(folder.path().join(format!("{name}.crt")), certificate.pem())?;
            let file = folder.path().join(format!("{name}.key"));
            fs::write(&file, key.serialize_pem())?;
            // PostgreSQL refuses a key that others can read.
            fs::set_permissions(&file, fs::Permissions::from_mode(0o600))?;
        }
        Ok(Self { folder })
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

/// A copy in a folder, for the folder's owner: the server may run as another user.
fn handed_over(file: &Path, folder: &Path) -> Result<String> {
    let copy = folder.join(file.file_name().context("a name")?);
    fs::copy(file, &copy)?;
    let owner = fs::metadata(folder)?;
    chown(&copy, Some(owner.uid()), Some(owner.gid()))?;
    Ok(copy.display().to_string())
}

#[tokio::test]
async fn rabbitmq_is_verified_and_sees_the_certificate_of_the_client() -> Result<()> {
    let ours = Certificates::make()?;
    let port = harness::free_port()?;
    let path = |name: &str| ours.file(name).display().to_string();
    let node = harness::RabbitMq::start_node(&NodeOptions::configured(vec![
        format!("listeners.ssl.1 = 127.0.0.1:{port}"),
        format!("ssl_options.cacertfile = {}", path("ca.crt")),
        format!("ssl_options.certfile = {}", path("server.crt")),
        format!("ssl_options.keyfile = {}", path("server.key")),
        "ssl_options.verify = verify_peer".to_owned(),
        "ssl_options.fail_if_no_peer_cert = true".to_owned(),
    ]))?;
    node.create_vhost("tls")?;
    let url: AmqpUrl = format!("amqps://guest:guest@127.0.0.1:{port}/tls").parse()?;
    let check = async |tls: ClientTls| {
        let config = broker_rabbitmq::Config {
            tls,
            connection_timeout_ms: 3_000,
            ..broker_rabbitmq::Config::new(url.clone())
        };
        let broker = RabbitMq::connect(config);
        let checked = broker.check().await;
        broker.close().await;
        checked
    };
    let whole = ClientTls {
        ca: Some(ours.file("ca.crt")),
        certificate: Some(ours.file("client.crt")),
        key: Some(ours.file("client.key")),
    };
    assert_eq!(check(whole.clone()).await?.product, "RabbitMQ");
    let without = |change: fn(&mut ClientTls)| {
        let mut tls = whole.clone();
        change(&mut tls);
        tls
    };
    check(without(|tls| tls.ca = None)).await.expect_err("an authority that is not trusted");
    check(without(|tls| (tls.certificate, tls.key) = (None, None))).await.expect_err("no client certificate");
    Ok(())
}

#[tokio::test]
async fn postgresql_is_verified_and_sees_the_certificate_of_the_client() -> Result<()> {
    let ours = Certificates::make()?;
    let postgres = Postgres::start()?;
    postgres.create_database("malote")?;
    for (setting, name) in
        [("ssl_cert_file", "server.crt"), ("ssl_key_file", "server.key"), ("ssl_ca_file", "ca.crt")]
    {
        postgres.set(setting, &handed_over(&ours.file(name), postgres.folder())?)?;
    }
    postgres.set("ssl", "on")?;
    let url = format!("{}?sslmode=verify-full", postgres.url("malote"));
    let open = |tls: ClientTls| {
        let config = store::Config { tls, ..store::Config::new(url.clone()) };
        Store::open(&config, Path::new(".")).map_err(anyhow::Error::from)
    };
    let whole = ClientTls {
        ca: Some(ours.file("ca.crt")),
        certificate: Some(ours.file("client.crt")),
        key: Some(ours.file("client.key")),
    };
    let store = open(whole.clone())?;
    let asked =
        "SELECT ssl::int::text || coalesce(client_dn, '') FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
    let seen: String =
        store::sql::scalar(asked).fetch_one(&mut *store.read().await?).await.context("pg_stat_ssl")?;
    assert!(seen.starts_with("1/CN="), "{seen}");
    store.close().await;
    let store = open(ClientTls { ca: None, ..whole })?;
    store.check().await.expect_err("an authority that is not trusted");
    store.close().await;
    Ok(())
}
