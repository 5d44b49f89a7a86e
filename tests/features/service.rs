//! `Pool::service`.

use std::future::poll_fn;

use cellblock::{Command, ErrorKind, Pool};
use futures::poll;
use tower_service::Service;

use crate::common::{SECOND, alone, builder, sh};

#[test]
fn a_service_is_ready_once_it_holds_a_lease() {
    alone(async |snapshot| {
        let pool = Pool::builder(builder()).size(1).build().await.unwrap();
        let mut service = pool.service();
        poll_fn(|context| service.poll_ready(context)).await.unwrap();
        poll_fn(|context| service.poll_ready(context)).await.unwrap();
        assert_eq!(pool.status().leased, 1, "it holds one lease");
        let mut other = service.clone();
        let ready = poll_fn(|context| other.poll_ready(context));
        let mut ready = Box::pin(ready);
        assert!(poll!(&mut ready).is_pending(), "backpressure");
        let output = service.call(sh("echo hello")).await.unwrap();
        assert_eq!(output.stdout, b"hello\n");
        ready.await.unwrap();
        drop(other);
        assert!(
            service.call(Command::new("/bin/true")).await.unwrap().report.status.success(),
            "a call waits by itself"
        );
        pool.shutdown(SECOND).await;
        let error = poll_fn(|context| service.poll_ready(context)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Closed);
        drop((service, pool));
        snapshot.assert_restored().await;
    });
}
