"""The layers that have a goal: how much faster than onnxruntime's Conv each shall be, is, and could be at best."""
