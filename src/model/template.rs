//! Chat templates: Jinja, as `tokenizer_config.json` carries them.

use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::{Environment, Error, ErrorKind, Value, context};
use serde::Serialize;

/// One turn of a conversation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ChatMessage {
    pub role: String,
    pub content: String,
}

/// A compiled chat template with its special tokens.
pub struct ChatTemplate {
    environment: Environment<'static>,
    begin: String,
    end: String,
}

impl ChatTemplate {
    /// Compiles `tokenizer_config`'s template and renders a trial conversation, so that a template that cannot
    /// work is found at load.
    pub fn compile(tokenizer_config: &serde_json::Value) -> Result<Self, String> {
        let source = tokenizer_config["chat_template"]
            .as_str()
            .ok_or("it has no chat_template")?
            .to_owned();
        // As transformers sets up its Jinja.
        let syntax = SyntaxConfig::builder()
            .trim_blocks(true)
            .lstrip_blocks(true)
            .build();
        let syntax = syntax.map_err(|e| e.to_string())?;
        let mut environment = Environment::new();
        environment.set_syntax(syntax);
        environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.add_function("raise_exception", |reason: String| -> Result<String, Error> {
            Err(Error::new(ErrorKind::InvalidOperation, reason))
        });
        environment
            .add_template_owned("chat", source)
            .map_err(|e| format!("its chat_template does not compile: {e}"))?;
        let template = Self {
            environment,
            begin: special(tokenizer_config, "bos_token"),
            end: special(tokenizer_config, "eos_token"),
        };
        let trial = [ChatMessage {
            role: "user".to_owned(),
            content: "Hello".to_owned(),
        }];
        template
            .render(&trial)
            .map_err(|e| format!("its chat_template fails on one user message: {e}"))?;
        Ok(template)
    }

    /// The text of a conversation up to where the model is to answer.
    pub fn render(&self, messages: &[ChatMessage]) -> Result<String, String> {
        let values = context! {
            messages => Value::from(Serde(messages)),
            add_generation_prompt => true,
            bos_token => self.begin.as_str(),
            eos_token => self.end.as_str(),
        };
        let template = self.environment.get_template("chat").map_err(|e| e.to_string())?;
        template
            .render(values)
            .map_err(|e| e.detail().map_or_else(|| e.to_string(), str::to_owned))
    }
}

/// A special token, given as a string or as an object with `content`.
fn special(config: &serde_json::Value, name: &str) -> String {
    let value = &config[name];
    value
        .as_str()
        .or_else(|| value["content"].as_str())
        .unwrap_or_default()
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compile(source: &str) -> Result<ChatTemplate, String> {
        ChatTemplate::compile(&serde_json::json!({
            "chat_template": source, "bos_token": {"content": "<s>"}, "eos_token": "</s>"
        }))
    }

    #[test]
    fn renders_turns_with_python_methods() {
        let source = "{{ bos_token }}{% for m in messages %}\n[{{ m.role.upper() }}]{{ m['content'].strip() }}\
                      {% endfor %}{% if add_generation_prompt %}[A]{% endif %}";
        let message = |role: &str, content: &str| ChatMessage {
            role: role.into(),
            content: content.into(),
        };
        let text = compile(source)
            .unwrap()
            .render(&[message("user", " hi "), message("assistant", "yo")]);
        assert_eq!(text.unwrap(), "<s>[USER]hi[ASSISTANT]yo[A]");
    }

    #[test]
    fn broken_templates_fail_at_load() {
        assert!(
            compile("{% for m in messages %}")
                .err()
                .unwrap()
                .contains("does not compile")
        );
        assert!(
            compile("{{ no_such_function() }}")
                .err()
                .unwrap()
                .contains("fails on one user message")
        );
        assert!(ChatTemplate::compile(&serde_json::json!({})).is_err());
    }

    #[test]
    fn a_template_may_refuse_a_conversation() {
        let template = compile(
            "{% if messages[0].role != 'user' %}{{ raise_exception('user first') }}{% endif %}{{ messages[0].content }}",
        );
        let refused = template.unwrap().render(&[ChatMessage {
            role: "tool".into(),
            content: "x".into(),
        }]);
        assert!(refused.unwrap_err().contains("user first"));
    }
}
