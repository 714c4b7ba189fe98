"""The results store, for the laboratory to come; result files are plain JSON so far (`measure/rd.py`)."""
