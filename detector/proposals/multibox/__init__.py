"""MultiBox (arXiv 1312.2249, arXiv 1412.1441): boxes proposed by a network in one pass.

priors, network           where boxes are expected, and what predicts residuals to them
assignment, loss          whose prediction is whose, and what training lowers
weights, predict          a file, and the proposer made of it
"""
