//! TCP health check: healthy if a TCP connect succeeds, and the TLS handshake for an upstream with TLS.

use super::probe_settings::probe_settings;
use super::{Failure, Probe, ProbeSchedule, Proof, Target};
use async_trait::async_trait;
use moongate_config::{Kind, Problems, Settings};

pub(super) const KIND: Kind<dyn Probe> = Kind {
    name: "tcp",
    about: "Healthy if a TCP connect succeeds",
    schema: |generator| generator.subschema_for::<TcpSettings>(),
    build,
};

probe_settings! {
    /// The settings of the `tcp` probe.
    TcpSettings {}
}

fn build(settings: &Settings) -> Result<Box<dyn Probe>, Problems> {
    let read: TcpSettings = settings.read()?;
    let mut problems = Problems::default();
    let schedule = read.schedule(&mut problems);
    if problems.refuse() { Err(problems) } else { Ok(Box::new(Tcp { schedule })) }
}

struct Tcp {
    schedule: ProbeSchedule,
}

#[async_trait]
impl Probe for Tcp {
    fn schedule(&self) -> ProbeSchedule {
        self.schedule
    }

    fn proof(&self) -> Proof {
        Proof::Connect
    }

    async fn probe(&self, target: &Target<'_>) -> Result<(), Failure> {
        target.connect(false).await?;
        Ok(())
    }
}
