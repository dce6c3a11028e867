//! Each server for real: started, killed, stopped and restarted, with what is durable still there.
//!
//! Messages are published and read through RabbitMQ's own tools, so that these tests need no AMQP client.

use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use harness::{Postgres, RabbitMq, Servers};

/// Declares a durable quorum queue and publishes persistent messages to it, waiting for the confirms.
fn publish(rabbitmq: &RabbitMq, vhost: &str, queue: &str, count: u32) {
    let expression = format!(
        r#"application:ensure_all_started(amqp_client),
           {{ok, Connection}} = amqp_connection:start({{amqp_params_direct, <<"guest">>, none, <<"{vhost}">>, node(), none, []}}),
           {{ok, Channel}} = amqp_connection:open_channel(Connection),
           Declare = {{'queue.declare', 0, <<"{queue}">>, false, true, false, false, false, [{{<<"x-queue-type">>, longstr, <<"quorum">>}}]}},
           {{'queue.declare_ok', _, _, _}} = amqp_channel:call(Channel, Declare),
           {{'confirm.select_ok'}} = amqp_channel:call(Channel, {{'confirm.select', false}}),
           [ok = amqp_channel:cast(Channel, {{'basic.publish', 0, <<>>, <<"{queue}">>, false, false}}, {{amqp_msg, {{'P_basic',
               undefined, undefined, undefined, 2, undefined, undefined, undefined, undefined, undefined, undefined, undefined,
               undefined, undefined, undefined}}, <<"body">>}}) || _ <- lists:seq(1, {count})],
           true = amqp_channel:wait_for_confirms(Channel, 10),
           amqp_connection:close(Connection)."#
    );
    rabbitmq.rabbitmqctl("eval", &[&expression]).expect("the node confirms what is published");
}

fn await_queues(rabbitmq: &RabbitMq, vhost: &str, expected: &[(&str, u64)]) {
    let deadline = Instant::now() + Duration::from_secs(30);
    let expected: Vec<_> = expected.iter().map(|(name, messages)| ((*name).to_owned(), *messages)).collect();
    loop {
        let queues = rabbitmq.queues(vhost);
        if queues.as_ref().is_ok_and(|queues| *queues == expected) {
            return;
        }
        assert!(Instant::now() < deadline, "expected {expected:?}, got {queues:?}");
        thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn confirmed_messages_survive_kill_9_and_a_graceful_restart_of_rabbitmq() {
    let rabbitmq = RabbitMq::start().unwrap();
    rabbitmq.create_vhost("books").unwrap();
    publish(&rabbitmq, "books", "orders", 3);
    await_queues(&rabbitmq, "books", &[("orders", 3)]);
    rabbitmq.sync_declarations().unwrap();
    let (first, url) = (rabbitmq.pid().unwrap(), rabbitmq.url("books"));

    rabbitmq.kill9().unwrap();
    assert_eq!(rabbitmq.pid(), None);
    assert!(TcpStream::connect(("127.0.0.1", rabbitmq.amqp_port())).is_err());
    rabbitmq.restart().unwrap();
    assert_ne!(rabbitmq.pid(), Some(first));
    assert_eq!(rabbitmq.url("books"), url);
    await_queues(&rabbitmq, "books", &[("orders", 3)]);

    rabbitmq.restart().unwrap();
    await_queues(&rabbitmq, "books", &[("orders", 3)]);

    let folder = rabbitmq.folder().to_owned();
    drop(rabbitmq);
    assert!(!folder.exists());
}

#[test]
fn the_memory_alarm_of_rabbitmq_goes_up_and_down() {
    let rabbitmq = RabbitMq::start().unwrap();
    let alarms = || rabbitmq.rabbitmqctl("eval", &["rabbit_alarm:get_alarms()."]).unwrap();
    assert_eq!(alarms().trim(), "[]");
    rabbitmq.set_memory_alarm(true).unwrap();
    assert!(alarms().contains("memory"), "{}", alarms());
    rabbitmq.set_memory_alarm(false).unwrap();
    assert_eq!(alarms().trim(), "[]");
}

#[test]
fn committed_rows_survive_kill_9_and_a_graceful_restart_of_postgresql() {
    let postgres = Postgres::start().unwrap();
    postgres.create_database("books").unwrap();
    postgres.query("books", "CREATE TABLE orders (id bigint); INSERT INTO orders VALUES (7)").unwrap();
    let first = postgres.pid().unwrap();

    postgres.kill9().unwrap();
    assert_eq!(postgres.pid(), None);
    assert!(postgres.query("books", "SELECT id FROM orders").is_err());
    postgres.restart().unwrap();
    assert_ne!(postgres.pid(), Some(first));
    assert_eq!(postgres.query("books", "SELECT id FROM orders").unwrap(), "7\n");

    postgres.restart().unwrap();
    assert_eq!(postgres.query("books", "SELECT id FROM orders; SHOW fsync").unwrap(), "7\non\n");

    let folder = postgres.folder().to_owned();
    drop(postgres);
    assert!(!folder.exists());
}

#[test]
fn every_test_gets_a_virtual_host_and_a_database_of_its_own() {
    let servers = Servers::start().unwrap();
    let shared = servers.shared();
    let (first, second) = (shared.fresh_vhost().unwrap(), shared.fresh_vhost().unwrap());
    assert_ne!(first, second);
    let name = first.rsplit('/').next().unwrap();
    publish(&servers.rabbitmq, name, "orders", 1);
    await_queues(&servers.rabbitmq, second.rsplit('/').next().unwrap(), &[]);
    await_queues(&servers.rabbitmq, name, &[("orders", 1)]);

    let database = shared.fresh_database().unwrap();
    assert_ne!(database, shared.fresh_database().unwrap());
    servers.postgres.query(database.rsplit('/').next().unwrap(), "CREATE TABLE orders (id bigint)").unwrap();
}
