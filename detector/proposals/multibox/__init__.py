"""MultiBox (arXiv 1312.2249, arXiv 1412.1441): boxes proposed by a network in one pass.

priors, network   prior boxes, and the heads that predict residuals to them
loss              bipartite matching of predictions to objects, and the training loss
weights, predict  the file of a trained network, and the proposer that uses it
"""
