//! Shows the states of consumers and spool as components of `/readyz`.

use broker::spool::Standing;
use consumer::Status;
use server::ComponentHealth;
use tokio::sync::watch;

/// Shows each state of a receiver as health, until its sender is gone.
pub(super) async fn follow<T>(
    mut states: watch::Receiver<T>,
    show: fn(&T, &ComponentHealth),
    component: ComponentHealth,
) {
    loop {
        show(&states.borrow_and_update(), &component);
        if states.changed().await.is_err() {
            return;
        }
    }
}

/// Shows a consumer's status.
pub(super) fn consumer(status: &Status, component: &ComponentHealth) {
    match status {
        Status::Starting | Status::Stopped => {}
        Status::Running => component.up(),
        Status::Paused(why) => component.down(why.clone()),
    }
}

/// Shows the state of the spool.
pub(super) fn spool(standing: &Standing, component: &ComponentHealth) {
    match standing {
        Standing::Direct => component.up(),
        Standing::Spooling(why) => component.degraded(format!("events wait for the broker: {why}")),
        Standing::Refusing(why) => component.down(why.clone()),
    }
}

/// Shows what the spool has set aside.
pub(super) fn set_aside(set_aside: &Option<String>, component: &ComponentHealth) {
    match set_aside {
        None => component.up(),
        Some(text) => component.degraded(text.clone()),
    }
}
