//! One flood: creates the show, lets the crowd in, and accounts for everybody.

use std::{
    sync::{
        Arc, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use chrono::{DateTime, Utc};
use serde_json::json;
use stampede_shared::store::{Database, DatabaseSettings};
use tokio::{
    sync::{Mutex, Semaphore},
    task::JoinSet,
};
use uuid::Uuid;

use crate::{
    arrivals::Arrivals,
    buyers::Crowd,
    calls::{Calls, Minter, bearer, operator_call, refusal_code},
    checker,
    client::{Answer, Pool, Target},
    comparison,
    figures::{Counters, Record},
    hall::{self, Hall},
    line::Line,
    persist::Tries,
    plan::{Closed, Model, Plan},
    progress,
    summary::Summary,
    wants::{Ask, Want},
};

/// How many submissions may be under way for each connection. It bounds the memory of a burst; who
/// waits to begin is counted as waiting all the same.
const SUBMISSIONS_PER_CONNECTION: usize = 4;

/// How often the queue is read while it drains.
const DRAIN_PACE: Duration = Duration::from_millis(100);

/// Where a flood goes.
pub struct Destination {
    pub url: String,
    pub operator_key: String,
    pub buyer_secret: String,
    /// For the checker.
    pub database_url: Option<String>,
}

/// A flood whose last buyer has ended.
pub struct Flooded {
    crowd: Arc<Crowd>,
    show_id: Uuid,
    /// On the server's clock.
    began_at: DateTime<Utc>,
    records: Vec<Record>,
}

/// Runs the flood until the last buyer has ended.
pub async fn flood(plan: Plan, destination: &Destination) -> anyhow::Result<Flooded> {
    let target = Target::parse(&destination.url)?;
    let hall = Hall::new(&plan.hall)?;
    let show_id = create_show(&plan, &hall, &target, &destination.operator_key).await?;
    let crowd = Arc::new(Crowd {
        hall,
        calls: Calls::new(show_id),
        minter: Minter::new(&destination.buyer_secret, Utc::now()),
        name: format!("flood-{}", show_id.simple()),
        submits: Pool::new(target.clone(), plan.connections),
        acts: Pool::new(target.clone(), plan.act_connections()),
        asks: Pool::new(target.clone(), plan.act_connections()),
        watch: Pool::new(target.clone(), 1),
        pollers: Pool::new(target, plan.pollers),
        line: Line::default(),
        silence: Semaphore::new(0),
        counters: Counters::default(),
        complaints: std::sync::Mutex::default(),
        began: Instant::now(),
        plan,
    });
    if crowd.plan.habits.ask == Ask::AtOnce {
        crowd.silence.close();
    }
    let began_at = server_time(&crowd).await?;
    let records = let_in(&crowd).await?;
    Ok(Flooded {
        crowd,
        show_id,
        began_at,
        records,
    })
}

impl Flooded {
    /// Counts, and holds what buyers were told against the rows.
    pub async fn check(self, destination: &Destination) -> anyhow::Result<Summary> {
        let Flooded {
            crowd,
            show_id,
            began_at,
            records,
        } = self;
        let (plan, url) = (crowd.plan.clone(), destination.url.clone());
        let mut summary = Summary::new(&records, plan, url, show_id, began_at);
        summary.retries = crowd.counters.retries();
        summary.violations = std::mem::take(
            &mut *crowd
                .complaints
                .lock()
                .unwrap_or_else(PoisonError::into_inner),
        );
        match &destination.database_url {
            Some(url) => check_rows(&crowd, show_id, &records, url, &mut summary).await?,
            // Without the rows, who was not told the outcome counts as lost.
            None => summary.lost = summary.untold,
        }
        Ok(summary)
    }
}

/// Creates the flood's own show and opens its sale.
async fn create_show(
    plan: &Plan,
    hall: &Hall,
    target: &Target,
    operator_key: &str,
) -> anyhow::Result<Uuid> {
    let pool = Pool::new(target.clone(), 1);
    let who = bearer(operator_key)?;
    let creation = operator_call(&who, "/v1/operator/shows", &hall.creation(&plan.hall));
    let answer = pool.call(&creation).await.context("creating the show")?;
    let show = hall::created(&expect_success("creating the show", answer)?.body)?;
    let path = format!("/v1/operator/shows/{}/sale", show.id);
    let opening = operator_call(&who, &path, &json!({ "command": "open", "reason": null }));
    let answer = pool.call(&opening).await.context("opening the sale")?;
    expect_success("opening the sale", answer)?;
    Ok(show.id)
}

fn expect_success(doing: &str, answer: Answer) -> anyhow::Result<Answer> {
    if !answer.is_success() {
        let code = refusal_code(answer.status, &answer.body);
        bail!(
            "{doing}: {} {code}: {}",
            answer.status,
            String::from_utf8_lossy(&answer.body)
        );
    }
    Ok(answer)
}

/// When the flood began, on the server's clock.
async fn server_time(crowd: &Crowd) -> anyhow::Result<DateTime<Utc>> {
    #[derive(serde::Deserialize)]
    struct Clock {
        server_time: DateTime<Utc>,
    }
    let answer = crowd
        .acts
        .call(&crowd.calls.queue())
        .await
        .context("reading the queue")?;
    let answer = expect_success("reading the queue", answer)?;
    let clock: Clock = serde_json::from_slice(&answer.body).context("reading the queue")?;
    Ok(clock.server_time - crowd.began.elapsed())
}

/// Lets everybody in, with the line watched and the progress shown, until the last has ended.
async fn let_in(crowd: &Arc<Crowd>) -> anyhow::Result<Vec<Record>> {
    let watch = crowd.line.watch(&crowd.calls, &crowd.watch);
    let show = progress::show(&crowd.counters, &crowd.line, crowd.plan.model.requests());
    let live = async {
        match crowd.plan.model {
            Model::Open(arrivals) => let_in_by_the_clock(crowd, arrivals).await,
            Model::Closed(closed) => let_in_a_circle(crowd, closed).await,
        }
    };
    tokio::select! {
        records = live => records,
        () = watch => bail!("the line is watched as long as there are buyers"),
        () = show => bail!("the progress is shown as long as there are buyers"),
    }
}

async fn let_in_by_the_clock(
    crowd: &Arc<Crowd>,
    arrivals: Arrivals,
) -> anyhow::Result<Vec<Record>> {
    let places = crowd.plan.connections * SUBMISSIONS_PER_CONNECTION;
    let room = Arc::new(Semaphore::new(places));
    let mut records = Vec::with_capacity(arrivals.requests as usize);
    let mut lives = JoinSet::new();
    // The first arrival is now, however long the set-up took.
    let offset = crowd.began.elapsed();
    for (index, start) in (0..).zip(arrivals.starts(crowd.plan.seed)) {
        let intended = offset + start;
        if intended > crowd.began.elapsed() {
            tokio::time::sleep_until((crowd.began + intended).into()).await;
        }
        let submitted = room.clone().acquire_owned().await?;
        let crowd = crowd.clone();
        lives.spawn(async move { crowd.live(index, intended, submitted).await });
        while let Some(record) = lives.try_join_next() {
            records.push(record??);
        }
    }
    // All places are free when all submissions are through.
    let _all = room.acquire_many(u32::try_from(places)?).await?;
    crowd.silence.close();
    while let Some(record) = lives.join_next().await {
        records.push(record??);
    }
    Ok(records)
}

async fn let_in_a_circle(crowd: &Arc<Crowd>, closed: Closed) -> anyhow::Result<Vec<Record>> {
    let next = Arc::new(AtomicU64::new(0));
    let records = Arc::new(Mutex::new(Vec::new()));
    let ends = closed
        .duration_s
        .map(|seconds| crowd.began.elapsed() + Duration::from_secs_f64(seconds));
    let mut buyers = JoinSet::new();
    for _ in 0..closed.buyers {
        let (crowd, next, records) = (crowd.clone(), next.clone(), records.clone());
        buyers.spawn(async move {
            loop {
                let index = next.fetch_add(1, Ordering::Relaxed);
                let now = crowd.began.elapsed();
                if index >= closed.requests || ends.is_some_and(|ends| now >= ends) {
                    return anyhow::Ok(());
                }
                let record = crowd.live(index, now, ()).await?;
                records.lock().await.push(record);
            }
        });
    }
    while let Some(buyer) = buyers.join_next().await {
        buyer??;
    }
    Ok(std::mem::take(&mut *records.lock().await))
}

/// Waits until nobody is in line any more, then checks every row.
async fn check_rows(
    crowd: &Crowd,
    show_id: Uuid,
    records: &[Record],
    database_url: &str,
    summary: &mut Summary,
) -> anyhow::Result<()> {
    drain(crowd).await;
    let settings = DatabaseSettings {
        database_url: database_url.to_owned(),
        listen_database_url: None,
    };
    let database = Database::connect(&settings, 2, "stampede flood").await?;
    let db = &database.pool;
    let violations = checker::check_drained(db, show_id)
        .await
        .context("checking the rows")?;
    let plan = &crowd.plan;
    let want = |index| Want::draw(plan.seed, index, &plan.habits, &crowd.hall);
    let comparison = comparison::compare(
        db,
        show_id,
        &crowd.hall,
        records,
        |number| crowd.buyer_id(number),
        want,
    )
    .await
    .context("comparing what buyers were told with the rows")?;
    db.close().await;
    summary.violations.extend(violations);
    summary.violations.extend(comparison.violations);
    summary.lost = comparison.lost;
    summary.unacknowledged = Some(comparison.unacknowledged);
    summary.database_checked = true;
    Ok(())
}

/// Waits for the requests that were accepted without their buyers knowing.
async fn drain(crowd: &Crowd) {
    let tries = Tries::default();
    while tries.elapsed() < crowd.plan.patience {
        if let Ok(answer) = crowd.acts.call(&crowd.calls.queue()).await
            && let Ok(queue) = serde_json::from_slice::<crate::calls::QueueAnswer>(&answer.body)
            && queue.head >= queue.tail
        {
            return;
        }
        tokio::time::sleep(DRAIN_PACE).await;
    }
}
