//! Commands: their ids, types and data, what decisions are based on, and why they are refused.

use mainstem::{
    Command, CommandError, CommandExecutor, CommandRecord, Decision, Error, Event, Filter, NewEvent,
    PostgresEventStore, Projection, RecordedCommand, Result,
};
use serde_json::json;

/// Whether it has been done, by its hostile name.
struct Done {
    name: String,
    times: usize,
}

impl Projection for Done {
    fn filter(&self) -> Result<Filter> {
        Filter::matching().any_type_of([&*self.name]).and_all_tags_of([&*self.name]).finish()
    }

    fn apply(&mut self, _: &Event) -> Result<()> {
        self.times += 1;
        Ok(())
    }
}

/// What may be done once.
struct Do(String);

impl Command for Do {
    type Model = Done;
    type Refusal = String;

    fn model(&self) -> Done {
        Done { name: self.0.clone(), times: 0 }
    }

    fn decide(&self, done: &Done) -> Result<Decision<String>> {
        if done.times > 0 {
            return Ok(Decision::refuse(self.0.clone()));
        }
        Ok(Decision::append([NewEvent::new(&*self.0, &json!({"done": self.0}))?.with_tag(&*self.0)]))
    }
}

pub(super) async fn command(store: &PostgresEventStore, text: &str) -> Result<()> {
    let executor = CommandExecutor::new(store.clone());
    let command = Do(format!("{text} once"));
    let record = |id: &str| CommandRecord::new(id, text).with_data(&json!({text: text}));
    for round in 0..2 {
        let executed = executor.execute(&command).recorded(record(text)?).await.map_err(error)?;
        assert_eq!(executed.is_repeated, round == 1);
    }
    let found = executor.find_command(text).await?.expect("it is recorded");
    assert_eq!((found.id(), found.command_type()), (text, text));
    assert_eq!(found.data().expect("its data").decode::<serde_json::Value>()?, json!({text: text}));
    // The same id for something else.
    let other = CommandRecord::new(text, "other").with_data(&json!({text: text}))?;
    assert!(executor.execute(&command).recorded(other).await.is_err());

    let id = format!("{text} refused");
    let refused = executor.execute(&command).recorded(record(&id)?).await.unwrap_err();
    assert!(matches!(&refused, CommandError::Refused { reason, .. } if *reason == command.0), "{refused:?}");
    let reason = executor.find_command(&id).await?.as_ref().and_then(RecordedCommand::refusal).cloned();
    assert_eq!(reason.expect("it was recorded").decode::<String>()?, command.0);
    assert_eq!(executor.read(command.model()).await?.into_state().times, 1);
    assert!(executor.find_command(&format!("{text} never")).await?.is_none());
    Ok(())
}

fn error(error: CommandError<String>) -> Error {
    match error {
        CommandError::Refused { reason, .. } => panic!("refused: {reason}"),
        other => other.error().cloned().expect("what is no refusal is an error"),
    }
}
