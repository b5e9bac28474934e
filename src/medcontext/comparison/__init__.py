"""Whether one model is better than another: paired differences over patients, and their text."""
