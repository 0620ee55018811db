"""Everything that a recipe can name. One line each; the module is imported when it is asked for.

This is the only place with module names in strings, so that ``palate --help`` and ``palate catalog`` load no torch.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any

from palate.schema import nearest


@dataclass(frozen=True, slots=True)
class Entry:
    """``target`` is ``"module:Class"`` below ``palate``; ``paper`` the source of the method ("" where there is none)."""

    name: str
    kind: str
    target: str
    summary: str
    paper: str = ""

    def load(self) -> Any:
        module, _, attribute = self.target.partition(":")
        return getattr(importlib.import_module(f"palate.{module}"), attribute)


# one line each
# fmt: off
ENTRIES: tuple[Entry, ...] = (
    # recall
    Entry("Popular", "recall", "recall.popular.popular:Popular", "most taken items, recent ones weighing more"),
    Entry("Fresh", "recall", "recall.popular.fresh:Fresh", "newest items first"),
    Entry("Tag", "recall", "recall.content.tag:Tag", "popular items of the tags a user takes most"),
    Entry("Former", "recall", "recall.served.former:Former", "what the user's last pages ranked high and had no place for"),
    Entry("Followed", "recall", "recall.content.followed:Followed", "new and popular items of the authors a user follows or took most from"),
    Entry("SimilarAuthors", "recall", "recall.content.similarauthors:SimilarAuthors", "popular items of authors who share their takers with the user's", "Sarwar et al., WWW 2001"),
    Entry("Near", "recall", "recall.content.near:Near", "what is around the place of the one who asks, less the further away"),
    Entry("Session", "recall", "recall.neighbor.session:Session", "what stood beside the last items in the most similar sessions", "Jannach, Ludewig, RecSys 2017; Garg et al., SIGIR 2019"),
    Entry("UserCF", "recall", "recall.neighbor.usercf:UserCF", "what the most similar users took", "Breese, Heckerman, Kadie, UAI 1998"),
    Entry("ItemCF", "recall", "recall.neighbor.itemcf:ItemCF", "items similar to the history's items", "Sarwar et al., WWW 2001"),
    Entry("Swing", "recall", "recall.neighbor.swing:Swing", "item similarity from pairs of users who share few items", "Yang et al., arXiv 2010.05525, 2020"),
    Entry("IALS", "recall", "recall.factor.ials:IALS", "implicit-feedback matrix factorization by alternating least squares", "Hu, Koren, Volinsky, ICDM 2008"),
    Entry("EASE", "recall", "recall.factor.ease:EASE", "each item as a weighted sum of the others, in closed form", "Steck, WWW 2019"),
    Entry("SLIM", "recall", "recall.factor.slim:SLIM", "each item as a sparse, non-negative weighted sum of the others", "Ning, Karypis, ICDM 2011"),
    Entry("ALS", "recall", "recall.factor.als:ALS", "ratings factorized by least squares, users and items in turn", "Zhou et al., AAIM 2008"),
    Entry("MF", "recall", "recall.factor.mf:MF", "ratings as products of factors, learned rating by rating", "Funk, 2006; Koren, Bell, Volinsky, IEEE Computer 2009"),
    Entry("BiasSVD", "recall", "recall.factor.biassvd:BiasSVD", "ratings as a mean, two biases and a product of factors", "Koren, Bell, Volinsky, IEEE Computer 2009"),
    Entry("SVD++", "recall", "recall.factor.svdpp:SVDpp", "BiasSVD whose user is also the sum of what was rated at all", "Koren, KDD 2008"),
    Entry("SVD", "recall", "recall.factor.svd:SVD", "interactions cut down to their largest singular values (PureSVD)", "Cremonesi, Koren, Turrin, RecSys 2010"),
    Entry("GFCF", "recall", "recall.factor.gfcf:GFCF", "a history smoothed over the graph of items, nothing trained", "Shen et al., CIKM 2021"),
    Entry("BPR", "recall", "recall.factor.bpr:BPR", "factors learned from pairs of what was taken and what not", "Rendle et al., UAI 2009"),
    Entry("Item2vec", "recall", "recall.embedding.item2vec:Item2vec", "items as words, what is taken together as sentences", "Barkan, Koenigstein, MLSP 2016"),
    Entry("ListingEmbedding", "recall", "recall.embedding.listingembedding:ListingEmbedding", "skip-grams of sessions that know bookings and markets", "Grbovic, Cheng, KDD 2018"),
    Entry("Content", "recall", "recall.content.content:Content", "items whose attributes resemble the liked ones'", "Pazzani, Billsus, The Adaptive Web, 2007"),
    Entry("MultDAE", "recall", "recall.autoencoder.multdae:MultDAE", "a denoising autoencoder of histories with one softmax over all items", "Liang et al., WWW 2018"),
    Entry("MultVAE", "recall", "recall.autoencoder.multvae:MultVAE", "a variational autoencoder of histories with one softmax over all items", "Liang et al., WWW 2018"),
    Entry("CDAE", "recall", "recall.autoencoder.cdae:CDAE", "a denoising autoencoder of histories with a node for each user", "Wu et al., WSDM 2016"),
    Entry("AutoRec", "recall", "recall.autoencoder.autorec:AutoRec", "an autoencoder of the matrix's columns or rows", "Sedhain et al., WWW 2015"),
    Entry("RBM", "recall", "recall.autoencoder.rbm:RBM", "a Boltzmann machine of histories, by contrastive divergence", "Salakhutdinov, Mnih, Hinton, ICML 2007"),
    Entry("DBN", "recall", "recall.autoencoder.dbn:DBN", "Boltzmann machines one upon the other", "Hinton, Osindero, Teh, Neural Computation 2006"),
    Entry("LightGCN", "recall", "recall.graph.lightgcn:LightGCN", "factors smoothed over the graph of who took what", "He et al., SIGIR 2020"),
    Entry("SGL", "recall", "recall.graph.sgl:SGL", "LightGCN that knows a node again in thinned copies of the graph", "Wu et al., SIGIR 2021"),
    Entry("SimGCL", "recall", "recall.graph.simgcl:SimGCL", "LightGCN that knows a node again under noise", "Yu et al., SIGIR 2022"),
    Entry("GMF", "recall", "recall.neural.gmf:GMF", "an inner product with a weight for each dimension", "He et al., WWW 2017"),
    Entry("NCFMLP", "recall", "recall.neural.ncfmlp:NCFMLP", "a perceptron over a user's and an item's vector", "He et al., WWW 2017"),
    Entry("NeuMF", "recall", "recall.neural.neumf:NeuMF", "GMF and a perceptron joined in their last layer", "He et al., WWW 2017"),
    Entry("ConvNCF", "recall", "recall.neural.convncf:ConvNCF", "convolutions over the outer product of two vectors", "He et al., IJCAI 2018"),
    Entry("SimpleX", "recall", "recall.neural.simplex:SimpleX", "a user's vector and history against very many negatives, by cosine", "Mao et al., CIKM 2021"),
    Entry("SASRec", "recall", "recall.sequential.sasrec:SASRec", "self-attention over what a user took, each place foretelling the next", "Kang, McAuley, ICDM 2018"),
    Entry("GRU4Rec", "recall", "recall.sequential.gru4rec:GRU4Rec", "a recurrent network over a list, told from what other lists have at the same step", "Hidasi et al., ICLR 2016; Hidasi, Karatzoglou, CIKM 2018"),
    Entry("BERT4Rec", "recall", "recall.sequential.bert4rec:BERT4Rec", "self-attention to both sides that names masked items", "Sun et al., CIKM 2019"),
    Entry("NextItNet", "recall", "recall.sequential.nextitnet:NextItNet", "causal convolutions whose holes grow", "Yuan et al., WSDM 2019"),
    Entry("Caser", "recall", "recall.sequential.caser:Caser", "the latest items as an image, read along time and across it", "Tang, Wang, WSDM 2018"),
    Entry("SRGNN", "recall", "recall.sequential.srgnn:SRGNN", "a session as a graph of its items", "Wu et al., AAAI 2019"),
    Entry("CL4SRec", "recall", "recall.sequential.cl4srec:CL4SRec", "SASRec that knows a list again when it was cropped, masked or reordered", "Xie et al., ICDE 2022"),
    Entry("MIND", "recall", "recall.multi_interest.mind:MIND", "a history routed into capsules, one an interest", "Li et al., CIKM 2019"),
    Entry("ComiRec", "recall", "recall.multi_interest.comirec:ComiRec", "several interests, and variety at will", "Cen et al., KDD 2020"),
    Entry("Weighted", "recall", "recall.hybrid.weighted:Weighted", "several models' scores summed, with weights that made the best lists of later events", "Burke, UMUAI 2002; Fox, Shaw, TREC-2, 1994"),
    Entry("Cascade", "recall", "recall.hybrid.cascade:Cascade", "one model fills, or refines, what another left", "Burke, UMUAI 2002"),
    Entry("Switching", "recall", "recall.hybrid.switching:Switching", "the model that fits how much is known of who asks", "Burke, UMUAI 2002"),
    Entry("DSSM", "recall", "recall.two_tower.dssm:DSSM", "a user tower and an item tower joined by their inner product", "Huang et al., CIKM 2013; Yi et al., RecSys 2019"),
    Entry("YouTubeDNN", "recall", "recall.two_tower.youtubednn:YouTubeDNN", "an averaged history through a tower, items as classes of a softmax", "Covington, Adams, Sargin, RecSys 2016"),
    # rank
    Entry("DIN", "rank", "rank.behavior.din:DIN", "a history weighed event by event by what it has to do with the candidate", "Zhou et al., KDD 2018"),
    Entry("DIEN", "rank", "rank.behavior.dien:DIEN", "interests read by a GRU, and their way to now weighted by the candidate", "Zhou et al., AAAI 2019"),
    Entry("MIMN", "rank", "rank.behavior.mimn:MIMN", "a user's past as a memory of fixed size, written event by event", "Pi et al., KDD 2019"),
    Entry("CAN", "rank", "rank.behavior.can:CAN", "an item's embedding is a small network applied to what the user did", "Bian et al., WSDM 2022"),
    Entry("LR", "rank", "rank.linear.lr:LR", "logistic regression over features and declared crosses", "Richardson, Dominowska, Ragno, WWW 2007"),
    Entry("FM", "rank", "rank.linear.fm:FM", "every pair of features by the inner product of two vectors, in linear time", "Rendle, ICDM 2010"),
    Entry("FFM", "rank", "rank.linear.ffm:FFM", "a factorization machine with one vector for each field that a feature meets", "Juan et al., RecSys 2016"),
    Entry("GBDT", "rank", "rank.boosting.gbdt:GBDT", "a sum of small trees, each mending what those before it got wrong", "Friedman, Annals of Statistics 2001"),
    Entry("LambdaMART", "rank", "rank.boosting.lambdamart:LambdaMART", "trees pulled by pairs, as much as swapping them changes NDCG", "Burges, MSR-TR-2010-82, 2010"),
    Entry("GBDTLR", "rank", "rank.boosting.gbdtlr:GBDTLR", "a logistic regression over the leaves of boosted trees", "He et al., ADKDD 2014"),
    Entry("WideDeep", "rank", "rank.interaction.widedeep:WideDeep", "a linear model of declared crosses, by FTRL, beside a tower", "Cheng et al., DLRS 2016"),
    Entry("DeepFM", "rank", "rank.interaction.deepfm:DeepFM", "a factorization machine and an MLP over the same embeddings", "Guo et al., IJCAI 2017"),
    Entry("NFM", "rank", "rank.interaction.nfm:NFM", "the pooled products of all pairs of fields feed a tower", "He, Chua, SIGIR 2017"),
    Entry("DCN", "rank", "rank.interaction.dcn:DCN", "a cross network of bounded degree beside a tower", "Wang et al., ADKDD 2017"),
    Entry("DCNv2", "rank", "rank.interaction.dcnv2:DCNv2", "cross layers with a matrix, full or of low rank, below or beside a tower", "Wang et al., WWW 2021"),
    Entry("GDCN", "rank", "rank.interaction.gdcn:GDCN", "cross layers whose products pass a gate", "Wang et al., CIKM 2023"),
    Entry("xDeepFM", "rank", "rank.interaction.xdeepfm:xDeepFM", "products of whole vectors, layer by layer, beside a tower", "Lian et al., KDD 2018"),
    Entry("AutoInt", "rank", "rank.interaction.autoint:AutoInt", "self-attention over fields finds what to cross", "Song et al., CIKM 2019"),
    Entry("FinalMLP", "rank", "rank.interaction.finalmlp:FinalMLP", "two gated perceptrons joined by products of what they give", "Mao et al., AAAI 2023"),
    Entry("FiBiNET", "rank", "rank.interaction.fibinet:FiBiNET", "bilinear products of pairs, of fields as they are and as they weigh", "Huang, Zhang, Zhang, RecSys 2019"),
    Entry("AllInteraction", "rank", "rank.interaction.allinteraction:AllInteraction", "every feature against a few learned mixes of all", "Zhang et al., ICML 2024"),
    Entry("NeuralInteraction", "rank", "rank.interaction.neuralinteraction:NeuralInteraction", "products of all pairs, compressed to a few vectors", "Lian et al., KDD 2018"),
    Entry("MixedCross", "rank", "rank.interaction.mixedcross:MixedCross", "heads that each cross the features in a way of their own", "Wang et al., WWW 2021"),
    Entry("MLP", "rank", "rank.interaction.mlp:MLP", "a plain tower over the embeddings of all features", "Covington, Adams, Sargin, RecSys 2016"),
    Entry("SharedBottom", "rank", "rank.multitask.sharedbottom:SharedBottom", "one perceptron that all tasks share, a small tower for each", "Caruana, Machine Learning 1997"),
    Entry("ESMM", "rank", "rank.multitask.esmm:ESMM", "conversion after a click, learned over all exposures", "Ma et al., SIGIR 2018"),
    Entry("MMoE", "rank", "rank.multitask.mmoe:MMoE", "shared experts mixed for each task by a gate of its own", "Ma et al., KDD 2018; Zhao et al., RecSys 2019"),
    Entry("PLE", "rank", "rank.multitask.ple:PLE", "experts of each task beside shared ones, in several levels", "Tang et al., RecSys 2020"),
    Entry("WatchTime", "rank", "rank.multitask.watchtime:WatchTime", "expected watch time by weighted logistic regression", "Covington, Adams, Sargin, RecSys 2016"),
    Entry("STAR", "rank", "rank.multidomain.star:STAR", "a shared network whose weights each scene multiplies by its own", "Sheng et al., CIKM 2021"),
    Entry("PEPNet", "rank", "rank.multidomain.pepnet:PEPNet", "gates of the scene on embeddings, of user and item on each task's tower", "Chang et al., KDD 2023"),
    Entry("YouTubeRank", "rank", "rank.behavior.youtuberank:YouTubeRank", "pooled histories, and numbers with their squares and roots, in a tower", "Covington, Adams, Sargin, RecSys 2016"),
    Entry("ConvLSTM", "rank", "rank.behavior.convlstm:ConvLSTM", "patterns of a history by a convolution, their order by an LSTM", "Sainath et al., ICASSP 2015"),
    Entry("SIM", "rank", "rank.behavior.sim:SIM", "a history of thousands of events searched for those that concern the candidate", "Pi et al., CIKM 2020"),
    # re-rank
    Entry("MMR", "rerank", "rerank.mmr:MMR", "relevance against similarity to what stands above", "Carbonell, Goldstein, SIGIR 1998"),
    Entry("Spread", "rerank", "rerank.rules:Spread", "no more than so many of one category in a row or window"),
    Entry("Cap", "rerank", "rerank.rules:Cap", "at most so many items with the same value of an attribute"),
    Entry("Pin", "rerank", "rerank.rules:Pin", "these items at these places"),
    Entry("Block", "rerank", "rerank.rules:Block", "these items never"),
    Entry("Explore", "rerank", "rerank.explore:Explore", "a share of the tail drawn by Plackett-Luce, propensities logged", "Plackett, 1975; Luce, 1959"),
    # filters
    Entry("Available", "filter", "funnel.filters:Available", "nothing that is withdrawn or unknown (always on)"),
    Entry("Exclude", "filter", "funnel.filters:Exclude", "nothing that the request excludes (always on)"),
    Entry("Blocked", "filter", "funnel.filters:Blocked", "these items never"),
    Entry("Where", "filter", "funnel.filters:Where", "a condition on one attribute"),
    Entry("Asked", "filter", "funnel.filters:Asked", "the conditions that come with a request"),
    # indexes
    Entry("Exact", "index", "index.exact:Exact", "every vector compared: the yardstick"),
    Entry("Int8", "index", "index.int8:Int8", "every vector compared, each in a quarter of the memory", "Jacob et al., CVPR 2018"),
    Entry("HNSW", "index", "index.hnsw:HNSW", "a navigable small-world graph", "Malkov, Yashunin, TPAMI 2020"),
    Entry("IVF", "index", "index.ivf:IVF", "inverted lists around centroids", "Jegou, Douze, Schmid, TPAMI 2011"),
    Entry("IVFPQ", "index", "index.ivfpq:IVFPQ", "inverted lists of what is left after the centroid, in a few bytes", "Jegou, Douze, Schmid, TPAMI 2011"),
    Entry("PQ", "index", "index.pq:PQ", "every vector compared, each as a few codewords", "Jegou, Douze, Schmid, TPAMI 2011"),
    Entry("LSH", "index", "index.lsh:LSH", "signs of random projections, several buckets a table", "Charikar, STOC 2002; Lv et al., VLDB 2007"),
    Entry("KDTree", "index", "index.kdtree:KDTree", "space halved across its widest coordinate: exact, for few dimensions", "Bentley, CACM 1975"),
    Entry("Annoy", "index", "index.annoy:Annoy", "a forest of random planes", "Bernhardsson, 2013; Dasgupta, Freund, STOC 2008"),
    # features
    Entry("Category", "feature", "features.transforms:Category", "a value as an id of a fitted vocabulary, with an id for unknown values"),
    Entry("Tags", "feature", "features.transforms:Tags", "several values as a padded list of vocabulary ids"),
    Entry("Number", "feature", "features.transforms:Number", "a number: as it is, log1p, standardised or min-max"),
    Entry("Quantile", "feature", "features.numbers:Quantile", "a number's place among those of training, from 0 to 1 (the empirical distribution function)"),
    Entry("Bucket", "feature", "features.numbers:Bucket", "a number as the id of a range: equal widths, quantiles, cuts of a decision tree, or given edges", "Breiman et al., 1984"),
    Entry("FID", "feature", "features.hashing:FID", "a value as a hashed id (slot and 48 bits of a hash) in a table of buckets, collisions reported", "Weinberger et al., ICML 2009"),
    Entry("Cross", "feature", "features.cross:Cross", "two or three columns of users, items and the context as one hashed id", "Cheng et al., DLRS 2016"),
    Entry("TimeParts", "feature", "features.clock:TimeParts", "hour, weekday, weekend, month and declared holidays of the moment of a request"),
    Entry("Recency", "feature", "features.clock:Recency", "how long ago the user's or the item's last event was, or how old the item is"),
    Entry("Vector", "feature", "features.transforms:Vector", "a precomputed vector of an item or user"),
    Entry("History", "feature", "features.history:History", "the last items (or an attribute of them) a user took, by any signal, with time gaps"),
    Entry("Count", "feature", "features.counters:Count", "how many events an item or user had in one or several windows before now"),
    Entry("Rate", "feature", "features.counters:Rate", "share of one signal among another in a window, smoothed by a prior that is given or fitted", "Wang et al., 2011"),
    Entry("Active", "feature", "features.counters:Active", "whether a user or item had so many events in a window before now"),
    Entry("Newcomer", "feature", "features.counters:Newcomer", "whether a user or item had fewer than so many events ever before now"),
    Entry("Match", "feature", "features.match:Match", "how often the user's history holds the candidate, its category, brand, author or tags, by window"),
    Entry("Audience", "feature", "features.audience:Audience", "shares of a user attribute's values among those who took the candidate last"),
    Entry("RouteScore", "feature", "features.counters:RouteScore", "a recall route's score of the candidate"),
    Entry("RouteRank", "feature", "features.counters:RouteRank", "a recall route's rank of the candidate"),
    # metrics
    Entry("recall", "metric", "evaluation.metrics.ranking:recall", "share of the relevant items among the first k"),
    Entry("ndcg", "metric", "evaluation.metrics.ranking:ndcg", "discounted gain of the first k over that of the best list", "Järvelin, Kekäläinen, TOIS 2002"),
    Entry("hit", "metric", "evaluation.metrics.ranking:hit", "whether any of the first k is relevant"),
    Entry("mrr", "metric", "evaluation.metrics.ranking:reciprocal_rank", "1 / place of the first relevant item"),
    Entry("map", "metric", "evaluation.metrics.ranking:average_precision", "precision at each hit over min(k, relevant)"),
    Entry("precision", "metric", "evaluation.metrics.ranking:precision", "share of the k places that are relevant"),
    Entry("f1", "metric", "evaluation.metrics.ranking:f1", "harmonic mean of precision and recall"),
    Entry("auc", "metric", "evaluation.metrics.rating:auc", "probability that a positive is predicted above a negative", "Hanley, McNeil, Radiology 1982"),
    Entry("grouped_auc", "metric", "evaluation.metrics.rating:grouped_auc", "AUC within each user, averaged", "Zhou et al., KDD 2018"),
    Entry("log_loss", "metric", "evaluation.metrics.rating:log_loss", "mean negative log-likelihood of binary labels"),
    Entry("calibration_error", "metric", "evaluation.metrics.rating:calibration_error", "mean gap between predicted and observed, in bins", "Naeini et al., AAAI 2015"),
    Entry("calibration_ratio", "metric", "evaluation.metrics.rating:calibration_ratio", "sum of predictions over sum of labels"),
    Entry("rmse", "metric", "evaluation.metrics.rating:rmse", "root of the mean squared error"),
    Entry("mae", "metric", "evaluation.metrics.rating:mae", "mean absolute error"),
    Entry("user_correlation", "metric", "evaluation.metrics.rating:user_correlation", "Pearson's correlation within each user"),
    Entry("accuracy", "metric", "evaluation.metrics.rating:accuracy", "share of rows on the right side of a threshold (not a ranking metric)"),
    Entry("coverage", "metric", "evaluation.metrics.lists:coverage", "share of the catalogue that any list shows"),
    Entry("novelty", "metric", "evaluation.metrics.lists:novelty", "mean self-information of the listed items", "Zhou et al., PNAS 2010"),
    Entry("diversity", "metric", "evaluation.metrics.lists:diversity", "mean distance between the items of a list", "Ziegler et al., WWW 2005"),
    Entry("gini", "metric", "evaluation.metrics.lists:gini", "inequality of how often items are shown"),
    Entry("popularity", "metric", "evaluation.metrics.lists:popularity", "mean popularity of the listed items"),
    Entry("popularity_lift", "metric", "evaluation.metrics.lists:popularity_lift", "popularity of the list over that of the user's own items", "Abdollahpouri et al., RMSE 2019"),
    Entry("long_tail", "metric", "evaluation.metrics.lists:long_tail", "share of a list outside the popular head"),
    # splits
    Entry("global_time", "split", "tables.splits:global_time", "everything after one moment is held out"),
    Entry("leave_last_out", "split", "tables.splits:leave_last_out", "each user's last events are held out"),
    Entry("ratio", "split", "tables.splits:ratio", "a share of each user's events is held out"),
    Entry("new_users", "split", "tables.splits:new_users", "all that some users did is held out; they are asked after a part of it", "Liang et al., WWW 2018"),
    Entry("by_session", "split", "tables.splits:by_session", "whole sessions that end after one moment are held out"),
    # data
    Entry("movielens-100k", "data", "tables.sources.movielens:movielens_100k", "100,000 ratings of 1,682 films by 943 users, with times", "Harper, Konstan, ACM TiiS 2015"),
    Entry("synthetic", "data", "tables.sources.synthetic:synthetic", "a world of any size whose preferences are known"),
)
# fmt: on


def find(name: str, kind: str | None = None) -> Entry:
    """The entry of that exact name (and kind); LookupError names the nearest right one."""
    known = [entry for entry in ENTRIES if kind is None or entry.kind == kind]
    for entry in known:
        if entry.name == name:
            return entry
    raise LookupError(f"the catalog has no {kind or 'entry'} {name!r}{nearest(name, [entry.name for entry in known])}")


def load(name: str, kind: str | None = None) -> Any:
    """The class or function behind a name."""
    return find(name, kind).load()
