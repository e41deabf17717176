"""What served models answered, made of the windows that their processes delivered: merged
(:mod:`~looptap_collector.serving.summary`), traced to the training that made them (:mod:`~looptap_collector.serving.origins`), held
against what they were (:mod:`~looptap_collector.serving.drift`), and told (:mod:`~looptap_collector.serving.report`)."""
