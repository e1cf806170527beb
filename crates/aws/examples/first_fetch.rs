//! What the first fetch of a fresh process costs, step by step.
//!
//! ```sh
//! AWS_ACCESS_KEY_ID=x AWS_SECRET_ACCESS_KEY=x AWS_EC2_METADATA_DISABLED=true \
//!     cargo run --release -p secretlink-aws --example first_fetch -- http://127.0.0.1:5000 name
//! ```
//!
//! With `-` for the endpoint, the real one. A secret that is missing is created, outside the time.

use std::time::{Duration, Instant};

use secretlink_aws::{AwsError, Client, NewSecret, SecretId, Settings, VersionSelector};
use secretlink_core::{Report, Secret};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let endpoint = arguments.next().unwrap_or_else(|| "http://127.0.0.1:5000".into());
    let name = arguments.next().unwrap_or_else(|| "first-fetch".into());
    let settings = Settings {
        region: Some("us-east-1".into()),
        endpoint_url: (endpoint != "-").then_some(endpoint),
        ..Settings::default()
    };
    let id = SecretId::parse(&name)?;
    let version = VersionSelector::default();

    let start = Instant::now();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let runtime_made = start.elapsed();
    let manager = Client::new(settings);
    let manager_made = start.elapsed();
    let first = runtime.block_on(manager.get_secret_value(&id, &version));
    let first_done = start.elapsed();

    match first {
        Ok(_) => {}
        Err(AwsError::SecretNotFound { .. }) => {
            let value = Secret::new(r#"{"username":"u","password":"p"}"#);
            let new = NewSecret { name, value, description: None, kms_key_id: None, version_id: None };
            runtime.block_on(manager.create_secret(new))?;
            println!("created the secret; run again");
            return Ok(());
        }
        Err(error) => {
            println!("{error}\ndetail: {:?}\nhint: {:?}", error.detail(), error.hint());
            return Err(error.into());
        }
    }
    let again = Instant::now();
    runtime.block_on(manager.get_secret_value(&id, &version))?;
    let second = again.elapsed();
    println!(
        "runtime {:.2} ms, client {:.2} ms, first fetch {:.2} ms, all {:.2} ms; second fetch {:.2} ms",
        ms(runtime_made),
        ms(manager_made - runtime_made),
        ms(first_done - manager_made),
        ms(first_done),
        ms(second),
    );
    Ok(())
}

/// A duration in milliseconds.
fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}
