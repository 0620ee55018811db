"""The one training loop and what it needs: ``trainer.py``, ``optimizers.py`` (rows of tables that were read, and only those, are updated),
``schedules.py``, ``adversarial.py``, ``checkpoint.py`` (safetensors with JSON inside, written in one move). Who watches: ``curves.py`` (JSON
lines), ``tensorboard.py``, ``wandb.py``, each the only file that knows its library. Who looks for better options: ``tuning.py`` (Optuna is known
only there), ``trials.py`` (what was tried, on disk), ``worker.py`` (a trial in a process of its own).

Nothing here knows a model by name: a model gives ``loss(batch)``, a data set gives ``len()`` and ``batch(chosen, generator)``. There is
no second loop to add; what a model needs differently belongs into its ``loss``, or into the ``portions`` it wants trained otherwise.
"""
